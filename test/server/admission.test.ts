import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createAdmission, createByteBudget, givingWay, type ByteClaim } from '../../src/server/admission.ts'

const LIMITS = { running: 4, runningPerNamespace: 3, runningBeside: 2, waiting: 8, waitingPerNamespace: 5 }

interface Mount {
  readonly namespace: string
  readonly deadline: number
}

type Step =
  | { readonly kind: 'offer'; readonly mount: Mount }
  | { readonly kind: 'finish'; readonly pick: number }
  | { readonly kind: 'withdraw'; readonly pick: number }

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    kind: fc.constant('offer' as const),
    mount: fc.record({ namespace: fc.constantFrom('a', 'b', 'c', '__proto__'), deadline: fc.nat(20) }),
  }),
  fc.record({ kind: fc.constant('finish' as const), pick: fc.nat() }),
  fc.record({ kind: fc.constant('withdraw' as const), pick: fc.nat() }),
)

describe('admission', () => {
  it('T18 limits hold, nobody is lost, nobody waits while there is room for it', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
        const admission = createAdmission<Mount>(LIMITS)
        let running: Mount[] = []
        let waiting: Mount[] = []
        const begun = new Set<string>()
        const limit = (namespace: string): number =>
          [...begun].some((other) => other !== namespace) ? LIMITS.runningBeside : LIMITS.runningPerNamespace
        const run = (mount: Mount): void => {
          expect(of(running, mount.namespace)).toBeLessThan(limit(mount.namespace))
          running.push(mount)
          begun.add(mount.namespace)
        }
        const of = (list: Mount[], namespace: string): number =>
          list.filter((mount) => mount.namespace === namespace).length
        for (const one of steps) {
          if (one.kind === 'offer') {
            const offer = admission.offer(one.mount.namespace, one.mount.deadline, one.mount)
            if (offer === 'run') run(one.mount)
            if (offer === 'wait') waiting.push(one.mount)
            if (offer === 'refused') {
              expect(waiting.length >= LIMITS.waiting || of(waiting, one.mount.namespace) >= 5).toBe(true)
            }
          } else if (one.kind === 'finish' && running.length > 0) {
            const done = running[one.pick % running.length]!
            running = running.filter((mount) => mount !== done)
            for (const next of admission.finish(done.namespace)) {
              expect(waiting).toContain(next)
              const rivals = waiting.filter((mount) => mount.namespace === next.namespace)
              expect(next.deadline).toBe(Math.min(...rivals.map((mount) => mount.deadline)))
              waiting = waiting.filter((mount) => mount !== next)
              run(next)
            }
          } else if (one.kind === 'withdraw' && waiting.length > 0) {
            const gone = waiting[one.pick % waiting.length]!
            expect(admission.withdraw(gone.namespace, gone)).toBe(true)
            expect(admission.withdraw(gone.namespace, gone)).toBe(false)
            waiting = waiting.filter((mount) => mount !== gone)
          }
          expect(admission.counts()).toEqual({ running: running.length, waiting: waiting.length })
          expect(running.length).toBeLessThanOrEqual(LIMITS.running)
          for (const namespace of ['a', 'b', 'c', '__proto__']) {
            expect(of(running, namespace)).toBeLessThanOrEqual(LIMITS.runningPerNamespace)
            const room = running.length < LIMITS.running && of(running, namespace) < limit(namespace)
            if (room) expect(of(waiting, namespace)).toBe(0)
          }
        }
      }),
    )
  })

  it('T18 a namespace with one mount is next however many another one has waiting', () => {
    const admission = createAdmission<string>({ ...LIMITS, waiting: 600, waitingPerNamespace: 600 })
    for (let index = 0; index < 500; index++) admission.offer('storm', 1, `storm ${index}`)
    admission.offer('other', 99, 'running at once')
    admission.offer('other', 99, 'running, too')
    admission.offer('other', 99, 'queued, too')
    const order = [admission.finish('storm'), admission.finish('storm'), admission.finish('other')].flat()
    expect(order).toContain('queued, too')
  })

  it('T18 a namespace holds less while others come, and more again when they have stopped', () => {
    const limits = {
      running: 16,
      runningPerNamespace: 12,
      runningBeside: 8,
      waiting: 1000,
      waitingPerNamespace: 500,
    }
    const admission = createAdmission<string>(limits)
    let held = 0
    for (let index = 0; index < 400; index++) if (admission.offer('storm', 1, 'storm') === 'run') held += 1
    expect(held).toBe(12)
    admission.offer('other', 1, 'other')
    for (let index = 0; index < 8; index++) held += admission.finish('storm').length - 1
    expect(held).toBe(8)
    admission.finish('other')
    for (let index = 0; index < 99; index++) held += admission.finish('storm').length - 1
    expect(held).toBe(12)
  })

  it('T18 namespaces take turns', () => {
    const admission = createAdmission<string>({ ...LIMITS, running: 1 })
    admission.offer('a', 1, 'a0')
    for (const item of ['a1', 'a2', 'a3']) admission.offer('a', 1, item)
    for (const item of ['b1', 'b2']) admission.offer('b', 1, item)
    const order: (string | undefined)[] = []
    for (let last = 'a'; order.length < 5; last = String(order.at(-1))[0]!)
      order.push(...admission.finish(last))
    expect(order).toEqual(['a1', 'b1', 'a2', 'b2', 'a3'])
  })
})

describe('giving way', () => {
  const call = (namespace: string, bytes: number) => ({ namespace, bytes })
  it.each([
    ['nobody waits', [], 10, []],
    ['the last of the heaviest', [call('a', 5), call('b', 4), call('b', 4)], 4, [2]],
    ['as many as are needed', [call('a', 5), call('a', 5), call('b', 9), call('a', 5)], 10, [3, 1]],
    ['all of the heaviest, and nobody else', [call('a', 5), call('b', 4), call('a', 1)], 10, [2, 0]],
  ])('T18 %s', (_name, waiting, bytes, expected) => {
    expect(givingWay(waiting, bytes).map((one) => waiting.indexOf(one))).toEqual(expected)
  })
})

describe('byte budget', () => {
  it('T14 never gives out more than it has, serves in order, and is whole again at the end', () => {
    const action = fc.record({
      bytes: fc.nat(150),
      act: fc.constantFrom('claim', 'shrink', 'release'),
      pick: fc.nat(),
    })
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const budget = createByteBudget(100)
        const claims: ByteClaim[] = []
        const granted: number[] = []
        for (const { bytes, act, pick } of actions) {
          const one = claims[pick % claims.length]
          if (act === 'claim' || !one) {
            const number = claims.length
            claims.push(budget.claim(bytes, () => granted.push(number)))
          } else if (act === 'shrink') one.shrinkTo(bytes)
          else one.release()
          expect(budget.counts().used).toBeLessThanOrEqual(100)
          expect(budget.counts().used).toBeGreaterThanOrEqual(0)
          expect(granted).toEqual(granted.toSorted((a, b) => a - b))
        }
        for (const claim of claims) claim.release()
        expect(budget.counts()).toEqual({ used: 0, waiting: 0 })
      }),
    )
  })

  it('T14 a claim over the whole budget is served alone', () => {
    const budget = createByteBudget(10)
    const order: string[] = []
    const first = budget.claim(1, () => order.push('small'))
    const big = budget.claim(1000, () => order.push('big'))
    expect(order).toEqual(['small'])
    first.release()
    expect(order).toEqual(['small', 'big'])
    budget.claim(1, () => order.push('after'))
    expect(order).toHaveLength(2)
    big.release()
    expect(order).toHaveLength(3)
  })
})
