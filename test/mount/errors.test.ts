import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  CODE_OF_KIND,
  FINAL_CODE,
  MAX_MESSAGE_BYTES,
  MountFailure,
  type ObjectFailure,
} from '../../src/mount/errors.ts'
import { ERROR_KINDS, type ErrorKind } from '../../src/providers/adapter.ts'

describe('a failed mount', () => {
  it('driver 8.3 maps every error kind to the code of the one table', () => {
    const names = Object.fromEntries(Object.entries(FINAL_CODE).map(([name, code]) => [code, name]))
    expect(Object.fromEntries(ERROR_KINDS.map((kind) => [kind, names[CODE_OF_KIND[kind]]]))).toEqual({
      config: 'INVALID_ARGUMENT',
      unauthenticated: 'UNAUTHENTICATED',
      denied: 'PERMISSION_DENIED',
      'not-found': 'NOT_FOUND',
      gone: 'NOT_FOUND',
      throttled: 'FAILED_PRECONDITION',
      unavailable: 'FAILED_PRECONDITION',
      timeout: 'FAILED_PRECONDITION',
      malformed: 'DATA_LOSS',
      'too-large': 'OUT_OF_RANGE',
      internal: 'INTERNAL',
    })
  })

  it('driver 4 cannot name any of the five codes that are not final', () => {
    const notFinal = [1, 4, 8, 10, 14]
    expect(Object.values(FINAL_CODE).filter((code) => notFinal.includes(code))).toEqual([])
  })

  it('a single fault that is too long is cut, never left out', () => {
    for (const length of [600, 900, 960, 970, 980, 990, 1000, 5000]) {
      const { message } = MountFailure.of('config', 'TOO_LONG', 'x'.repeat(length), 'Make it shorter')
      expect(message).toMatch(/^TOO_LONG: x{500}/)
      expect(message).toMatch(/Make it shorter\.$/)
      expect(Buffer.byteLength(message)).toBeLessThanOrEqual(1000)
    }
  })

  it('names code, object, file, fault, kind and remedy', () => {
    const failure: ObjectFailure = {
      kind: 'denied',
      code: 'NOT_BOUND',
      message: 'is bound to others',
      remedy: 'Bind it',
      object: 'db',
      file: 'db/password',
    }
    expect(new MountFailure([failure]).message).toBe(
      'NOT_BOUND: object "db" (db/password): is bound to others [denied]. Bind it.',
    )
  })

  it('objects that fail alike share one clause and one remedy', () => {
    const failures = ['a', 'b'].map((object): ObjectFailure => ({
      kind: 'not-found',
      code: 'GONE',
      message: 'is not there',
      remedy: 'Create it',
      object,
    }))
    expect(new MountFailure(failures as [ObjectFailure]).message).toBe(
      'GONE: objects "a", "b": is not there [not-found]. Create it.',
    )
  })

  it('what the user must mend names the mount before what may pass by itself', () => {
    const of = (kind: ErrorKind): ObjectFailure => ({ kind, code: 'X', message: 'm' })
    expect(new MountFailure([of('throttled'), of('denied')]).grpcCode).toBe(FINAL_CODE.PERMISSION_DENIED)
    expect(new MountFailure([of('denied'), of('throttled')]).grpcCode).toBe(FINAL_CODE.PERMISSION_DENIED)
  })

  it('driver 3 stays under 1 KiB, valid and on one line, whatever the objects are called', () => {
    const text = fc.string({ unit: 'binary', maxLength: 400 })
    const one = fc.record({
      kind: fc.constantFrom(...ERROR_KINDS),
      code: fc.constant('CODE'),
      message: text,
      remedy: text,
      object: text,
      file: text,
    })
    fc.assert(
      fc.property(fc.array(one, { minLength: 1, maxLength: 30 }), (failures) => {
        const { message } = new MountFailure(failures as unknown as [ObjectFailure])
        expect(Buffer.byteLength(message)).toBeLessThanOrEqual(MAX_MESSAGE_BYTES)
        expect(message.isWellFormed()).toBe(true)
        expect(/\p{Cc}/u.test(message)).toBe(false)
        expect(message).toMatch(/^CODE: /)
      }),
    )
  })
})
