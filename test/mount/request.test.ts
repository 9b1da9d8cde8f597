import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MountFailure } from '../../src/mount/errors.ts'
import { decodeMountRequest } from '../../src/mount/request.ts'

const K = 'csi.storage.k8s.io/'
const pod = {
  [`${K}pod.name`]: 'web-0',
  [`${K}pod.namespace`]: 'shop',
  [`${K}pod.uid`]: '6c0e8a1d-1111-4222-8333-944455566677',
  [`${K}serviceAccount.name`]: 'web',
}
const wire = (
  attributes: object,
  more: Partial<Record<'secrets' | 'permission' | 'target_path', string>> = {},
) => ({
  attributes: JSON.stringify(attributes),
  secrets: '',
  target_path: '',
  permission: '420',
  ...more,
})

describe('decoding a Mount call', () => {
  it("driver 1.1 separates kubelet's and the driver's keys from parameters", () => {
    const request = decodeMountRequest(
      wire({
        ...pod,
        [`${K}ephemeral`]: 'true',
        secretProviderClass: 'web-secrets',
        providerName: 'x',
        objects: '- a\n',
      }),
    )
    expect(request.pod).toEqual({
      name: 'web-0',
      namespace: 'shop',
      uid: pod[`${K}pod.uid`],
      serviceAccount: 'web',
    })
    expect(request.secretProviderClass).toBe('web-secrets')
    expect([...request.parameters]).toEqual([['objects', '- a\n']])
    expect(request.defaultMode).toBe(0o644)
  })

  it.each(['', 'null', '{}'])('driver 8.2 takes secrets %j as none', (secrets) => {
    expect(decodeMountRequest(wire(pod, { secrets })).nodePublishSecret.size).toBe(0)
  })

  it('driver 8.2 tolerates missing target_path, permission, secretProviderClass and ephemeral', () => {
    const request = decodeMountRequest(wire(pod, { permission: '' }))
    expect(request).toMatchObject({ secretProviderClass: undefined, defaultMode: 0o644, targetPath: '' })
  })

  it('driver 1.1 drops the token key from the node-publish Secret', () => {
    const secrets = JSON.stringify({ clientid: 'a', [`${K}serviceAccount.tokens`]: '{"vault":{}}' })
    const request = decodeMountRequest(wire(pod, { secrets }))
    expect([...request.nodePublishSecret.keys()]).toEqual(['clientid'])
    expect(request.tokens?.reveal().toString()).toBe('{"vault":{}}')
  })

  it('driver 6 reads tokens from attributes first and treats an empty text as absent', () => {
    const key = `${K}serviceAccount.tokens`
    const secrets = JSON.stringify({ [key]: '{"b":{}}' })
    expect(
      decodeMountRequest(wire({ ...pod, [key]: '{"a":{}}' }, { secrets }))
        .tokens?.reveal()
        .toString(),
    ).toBe('{"a":{}}')
    expect(
      decodeMountRequest(wire({ ...pod, [key]: '' }, { secrets }))
        .tokens?.reveal()
        .toString(),
    ).toBe('{"b":{}}')
    expect(decodeMountRequest(wire({ ...pod, [key]: '' })).tokens).toBeUndefined()
  })

  it.each([
    '',
    'x',
    '[]',
    '1',
    '"a"',
    '{"a":1}',
    '{"a":{}}',
    '{"a":null}',
    '{"a":["b"]}',
    '['.repeat(100_000),
  ])('driver 8.2 refuses attributes %#, which are no JSON object of strings', (attributes) => {
    expect(() => decodeMountRequest({ ...wire(pod), attributes })).toThrow(
      expect.objectContaining({
        grpcCode: 3,
        message: expect.stringContaining('attributes is not a JSON object of strings'),
      }),
    )
  })

  it('T14 refuses more members than a small heap holds, before it makes any', () => {
    const many = (count: number): string =>
      `{${Array.from({ length: count }, (_, i) => `"k${i}":"x"`).join(',')}}`
    const refusal = expect.objectContaining({ grpcCode: 3, message: expect.stringContaining('10000') })
    expect(() => decodeMountRequest({ ...wire(pod), attributes: many(300_000) })).toThrow(refusal)
    expect(() => decodeMountRequest({ ...wire(pod), secrets: many(10_001) })).toThrow(refusal)
    expect(decodeMountRequest({ ...wire(pod), secrets: many(10_000) }).nodePublishSecret.size).toBe(10_000)
  })

  it.each(['0644', '-1', '512', '1e2', '420.0', '"420"', ' 420'])(
    'driver 1.1 refuses the permission %j',
    (permission) => {
      expect(() => decodeMountRequest(wire(pod, { permission }))).toThrow(
        /permission is not a decimal file mode/,
      )
    },
  )

  it.each(Object.keys(pod))('T4 refuses a request without %s', (key) => {
    expect(() => decodeMountRequest(wire({ ...pod, [key]: '' }))).toThrow(
      expect.objectContaining({ grpcCode: 3, message: expect.stringMatching(/podInfoOnMount: true/) }),
    )
  })

  it('T16 a __proto__ key is data and reaches no prototype', () => {
    const attributes = `{"__proto__":"x","constructor":"y",${JSON.stringify(pod).slice(1)}`
    const request = decodeMountRequest({ ...wire(pod), attributes })
    expect(request.parameters.get('__proto__')).toBe('x')
    expect('x' in {}).toBe(false)
  })

  it('never throws anything but a MountFailure whose text has no part of the input', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.string(), (attributes, secrets, permission) => {
        try {
          decodeMountRequest({ attributes: `canary${attributes}`, secrets, permission, target_path: '' })
          expect.unreachable('the attributes are not JSON')
        } catch (error) {
          expect(error).toBeInstanceOf(MountFailure)
          expect(String(error)).not.toContain('canary')
        }
      }),
    )
  })

  it('keeps every parameter of any object of strings, whatever its keys are', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.string()), (parameters) => {
        const own = Object.entries(parameters).filter(
          ([key]) => !key.startsWith(K) && key !== 'secretProviderClass' && key !== 'providerName',
        )
        const request = decodeMountRequest(wire({ ...Object.fromEntries(own), ...pod }))
        expect(new Map(own)).toEqual(new Map(request.parameters))
      }),
    )
  })
})
