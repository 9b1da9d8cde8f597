import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  createEndpointHealth,
  LONGEST_ASKED_MS,
  OPEN_AFTER,
  OPEN_MOST_MS,
  RAMP_MS,
  RETRIES,
  type Call,
  type EndpointHealth,
  type NotNow,
  type Outcome,
  type Place,
} from '../../src/mount/endpoint-health.ts'
import { silentLogger, type Logger } from '../../src/telemetry/log.ts'
import type { Meter } from '../../src/telemetry/metrics.ts'

const FAILED: Outcome = { result: 'failed', code: 'DOWN' }
const ANSWERED: Outcome = { result: 'answered' }
const UNKNOWN: Outcome = { result: 'unknown' }

const place = (identity = 'shop/web', endpoint = 'vault'): Place => ({
  backend: 'memory',
  endpoint,
  identity,
})

function setUp(random: () => number = () => 1) {
  const clock = { now: 1_000_000 }
  const figures = new Map<string, number>()
  const lines: string[] = []
  const named = (name: string, labels: object = {}): string =>
    [name, ...Object.values(labels as Record<string, string>)].join(' ')
  const meter: Meter = {
    count: (name, labels, by = 1) => {
      const key = named(name, labels)
      figures.set(key, (figures.get(key) ?? 0) + by)
    },
    gauge: (name, value, labels) => void figures.set(named(name, labels), value ?? 0),
    time: () => {},
  }
  const log: Logger = {
    ...silentLogger,
    info: (message) => void lines.push(`info ${message}`),
    warn: (message) => void lines.push(`warn ${message}`),
  }
  const health = createEndpointHealth({ now: () => clock.now, random, meter })
  const ask = (where: Place = place()): Call | NotNow => health.ask(where, log)
  const call = (outcome: Outcome, where: Place = place()): void => {
    const turn = ask(where)
    if (!('ended' in turn)) throw new Error(`no call: ${turn.refusal.code}`)
    turn.ended(outcome)
  }
  const fail = (times: number, where?: Place): void => {
    for (let i = 0; i < times; i += 1) call(FAILED, where)
  }
  return { clock, figures, lines, health, ask, call, fail }
}

const isCall = (turn: Call | NotNow): turn is Call => 'ended' in turn

describe('the circuit of an endpoint and an identity', () => {
  it.each([
    ['fewer failures than it takes', Array.from({ length: OPEN_AFTER - 1 }, () => FAILED), true],
    ['as many failures as it takes', Array.from({ length: OPEN_AFTER }, () => FAILED), false],
    [
      'an answer in between',
      [...Array.from({ length: OPEN_AFTER - 1 }, () => FAILED), ANSWERED, FAILED],
      true,
    ],
    [
      'what says nothing in between',
      [...Array.from({ length: OPEN_AFTER - 1 }, () => FAILED), UNKNOWN, FAILED],
      false,
    ],
    ['any number of calls that say nothing', Array.from({ length: 50 }, () => UNKNOWN), true],
  ] as const)('T29 after %s', (_name, outcomes, isClosed) => {
    const { call, ask } = setUp()
    for (const outcome of outcomes) call(outcome)
    expect(isCall(ask())).toBe(isClosed)
  })

  it("T29 one identity's failures, and one store's, never close the way for another", () => {
    const { fail, ask } = setUp()
    fail(OPEN_AFTER)
    expect(isCall(ask())).toBe(false)
    expect(isCall(ask(place('shop/other')))).toBe(true)
    expect(isCall(ask(place('bank/web')))).toBe(true)
    expect(isCall(ask(place('shop/web', 'another vault')))).toBe(true)
    // Parts cannot run into each other.
    expect(isCall(ask(place('web', 'vault","shop/')))).toBe(true)
  })

  it('driver 3 refuses with one final kind and one text, whatever the time and however often', () => {
    const { fail, ask, clock } = setUp()
    fail(OPEN_AFTER)
    const texts = new Set<string>()
    for (let round = 0; round < 5; round += 1) {
      let turn = ask()
      while (!isCall(turn)) {
        texts.add(`${turn.refusal.code} ${turn.refusal.kind} ${turn.refusal.message} ${turn.refusal.remedy}`)
        clock.now += 250
        turn = ask()
      }
      // A probe that fails in another way does not change the text.
      turn.ended({ result: 'failed', code: `ANOTHER_${round}` })
    }
    expect([...texts]).toEqual([expect.stringMatching(/^BACKEND_CIRCUIT_OPEN unavailable .*\(DOWN\)/)])
    expect([...texts][0]).not.toMatch(/\d/)
  })

  it.each([0, 0.5, 0.999])(
    'T29 open time grows, jittered by %f, and stays below the republish rhythm',
    (x) => {
      const { fail, ask, clock } = setUp(() => x)
      fail(OPEN_AFTER)
      const opens: number[] = []
      for (let round = 0; round < 12; round += 1) {
        const since = clock.now
        let turn = ask()
        while (!isCall(turn)) {
          clock.now += 10
          turn = ask()
        }
        opens.push(clock.now - since)
        turn.ended(FAILED)
      }
      expect(opens[0]).toBeLessThanOrEqual(1010)
      expect(opens[1]).toBeGreaterThan(opens[0] ?? 0)
      expect(Math.max(...opens)).toBeLessThanOrEqual(OPEN_MOST_MS + 10)
      expect(opens.at(-1)).toBeGreaterThanOrEqual(OPEN_MOST_MS / 2)
      expect(OPEN_MOST_MS).toBeLessThan(60_000)
    },
  )

  it('T29 one probe at a time: others wait for a quick one and are refused beside a slow one', () => {
    const { fail, ask, clock } = setUp()
    fail(OPEN_AFTER)
    clock.now += OPEN_MOST_MS
    const probe = ask()
    expect(isCall(probe)).toBe(true)
    expect(ask()).toMatchObject({ waitMs: expect.any(Number) })
    clock.now += 2000
    const beside = ask()
    expect(isCall(beside)).toBe(false)
    expect(beside).not.toHaveProperty('waitMs')
  })

  it('a probe that says nothing is followed by another at once; one that never ends is not waited for for ever', () => {
    const { fail, ask, clock } = setUp()
    fail(OPEN_AFTER)
    clock.now += OPEN_MOST_MS
    const first = ask()
    if (isCall(first)) first.ended(UNKNOWN)
    expect(isCall(ask())).toBe(true)
    expect(isCall(ask())).toBe(false)
    clock.now += 60 * 60_000
    expect(isCall(ask())).toBe(true)
  })

  it('T29 after a successful probe a herd goes through one after the other, slowly at first', () => {
    const { fail, ask, call, clock } = setUp()
    fail(OPEN_AFTER)
    clock.now += OPEN_MOST_MS
    call(ANSWERED)
    const began = clock.now
    const times: number[] = []
    // Two hundred who ask every 10 ms until it is their turn.
    while (times.length < 200) {
      for (let turn = ask(); isCall(turn) && times.length < 200; turn = ask()) {
        times.push(clock.now - began)
        turn.ended(ANSWERED)
      }
      clock.now += 10
    }
    const inFirstSecond = times.filter((time) => time < 1000).length
    const inSecond = times.filter((time) => time >= 1000 && time < 2000).length
    expect(inFirstSecond).toBeLessThanOrEqual(7)
    expect(inSecond).toBeGreaterThanOrEqual(inFirstSecond)
    expect(inSecond).toBeLessThanOrEqual(10)
    expect(times.filter((time) => time < RAMP_MS).length).toBeLessThan(120)
    expect(times.at(-1)).toBeLessThanOrEqual(RAMP_MS + 10)
  })

  it('T29 a failure on the ramp opens it again, for longer', () => {
    const { fail, ask, call, clock } = setUp()
    fail(OPEN_AFTER)
    clock.now += 1000
    call(ANSWERED)
    clock.now += 500
    call(FAILED)
    clock.now += 1900
    expect(isCall(ask())).toBe(false)
    clock.now += 100
    expect(isCall(ask())).toBe(true)
  })

  it('calls that began before it opened say nothing about the time after', () => {
    const { fail, ask, clock } = setUp()
    const slow = Array.from({ length: 20 }, () => ask())
    fail(OPEN_AFTER)
    for (const [index, turn] of slow.entries()) if (isCall(turn)) turn.ended(index % 2 ? FAILED : ANSWERED)
    expect(isCall(ask())).toBe(false)
    clock.now += 1000
    expect(isCall(ask())).toBe(true)
  })

  it('tells of each change once, in log and metrics, and not of each mount', () => {
    const { fail, ask, call, clock, lines, figures } = setUp()
    fail(OPEN_AFTER)
    for (let i = 0; i < 100; i += 1) ask()
    expect(figures.get('keyferry_circuits_open memory')).toBe(1)
    expect(figures.get('keyferry_calls_withheld_total memory circuit-open')).toBe(100)
    clock.now += OPEN_MOST_MS
    call(FAILED)
    clock.now += OPEN_MOST_MS
    call(ANSWERED)
    clock.now += RAMP_MS
    for (let i = 0; i < 100; i += 1) call(ANSWERED)
    expect(lines).toEqual([
      'warn a store keeps failing and is not called for a while',
      'info a store answers again',
    ])
    expect(figures.get('keyferry_circuits_open memory')).toBe(0)
    expect(
      ['opened', 'reopened', 'closed'].map((event) =>
        figures.get(`keyferry_circuit_events_total memory ${event}`),
      ),
    ).toEqual([1, 1, 1])
  })
})

describe('a store that asked not to be called', () => {
  const throttled = (retryAfterMs: number): Outcome => ({ result: 'failed', code: 'SLOW', retryAfterMs })

  it('T29 is not called before, by that identity; the wait is told to whoever can wait', () => {
    const { call, ask, clock } = setUp(() => 0)
    call(throttled(4000))
    expect(ask()).toMatchObject({
      waitMs: 4000,
      refusal: { code: 'BACKEND_ASKED_TO_WAIT', kind: 'throttled' },
    })
    expect(isCall(ask(place('shop/other')))).toBe(true)
    clock.now += 3999
    expect(isCall(ask())).toBe(false)
    clock.now += 1
    expect(isCall(ask())).toBe(true)
    // And then one after the other.
    expect(ask()).toMatchObject({ waitMs: expect.any(Number) })
  })

  it('is not believed for longer than a bound, and a shorter wish does not cut a longer one', () => {
    const { call, ask, clock } = setUp(() => 0)
    const [one, other] = [ask(), ask()]
    if (isCall(one) && isCall(other)) {
      one.ended(throttled(1e12))
      other.ended(throttled(10))
    }
    clock.now += LONGEST_ASKED_MS - 1
    expect(isCall(ask())).toBe(false)
    clock.now += 1
    call(ANSWERED)
  })
})

describe('the budget of retries', () => {
  it('T29 is one for an endpoint, is spent by an outage, and comes back with answers', () => {
    const { health, call } = setUp()
    const spend = (where = place()): number => {
      let granted = 0
      while (granted < 1000 && health.mayRetry(where)) granted += 1
      return granted
    }
    expect(spend()).toBe(RETRIES.most)
    expect(spend(place('bank/web'))).toBe(0)
    expect(spend(place('shop/web', 'other'))).toBe(RETRIES.most)
    for (let i = 0; i < 10; i += 1) call(ANSWERED)
    expect(spend()).toBe(Math.floor(10 * RETRIES.perAnswer))
    for (let i = 0; i < 1000; i += 1) call(ANSWERED)
    expect(spend()).toBe(RETRIES.most)
  })
})

describe('what is remembered', () => {
  it('is bounded, and nothing of those that are well', () => {
    const { fail, call, health, figures } = setUp()
    for (let i = 0; i < 500; i += 1) call(ANSWERED, place(`well-${i}`, `e-${i}`))
    expect(health.size).toBe(0)
    for (let i = 0; i < 3000; i += 1) {
      fail(OPEN_AFTER, place(`sa-${i}`, `e-${i}`))
      health.mayRetry(place(`sa-${i}`, `e-${i}`))
    }
    expect(health.size).toBeLessThanOrEqual(2000)
    expect(figures.get('keyferry_circuits_open memory')).toBeLessThanOrEqual(1000)
  })

  it('T29 over any course of events: never a call before the time asked for, never closed for ever, never for another identity', () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ do: fc.constant('ask' as const), who: fc.nat(2) }) },
      {
        weight: 4,
        arbitrary: fc.record({
          do: fc.constant('end' as const),
          which: fc.nat(100),
          how: fc.constantFrom('failed', 'failed', 'failed', 'answered', 'unknown'),
          retryAfterMs: fc.option(fc.nat(20_000), { nil: undefined, freq: 8 }),
        }),
      },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat(12_000) }) },
    )
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 300 }),
        fc.infiniteStream(fc.double({ min: 0, max: 0.999, noNaN: true })),
        (steps, dice) => {
          const { clock, health } = setUp(() => dice.next().value as number)
          const inFlight: { who: number; call: Call }[] = []
          const notBefore = [0, 0, 0]
          const log = silentLogger
          const ask = (h: EndpointHealth, who: number) => h.ask(place(`sa-${who}`), log)
          for (const one of steps) {
            if (one.do === 'wait') clock.now += one.ms
            if (one.do === 'ask') {
              // Who never failed is never held up: identity 3 makes no calls but these.
              expect(isCall(ask(health, 3))).toBe(true)
              const turn = ask(health, one.who)
              if (!isCall(turn)) continue
              expect(clock.now).toBeGreaterThanOrEqual(notBefore[one.who] ?? 0)
              inFlight.push({ who: one.who, call: turn })
            }
            if (one.do === 'end' && inFlight.length > 0) {
              const [ended] = inFlight.splice(one.which % inFlight.length, 1)
              if (!ended) continue
              ended.call.ended({
                result: one.how,
                code: 'X',
                ...(one.retryAfterMs !== undefined && { retryAfterMs: one.retryAfterMs }),
              })
              if (one.retryAfterMs !== undefined)
                notBefore[ended.who] = Math.max(notBefore[ended.who] ?? 0, clock.now + one.retryAfterMs)
            }
          }
          // Whatever happened: once everything in flight is over, each has its call within the bound.
          for (const { call } of inFlight) call.ended(UNKNOWN)
          for (const who of [0, 1, 2]) {
            clock.now = Math.max(clock.now, notBefore[who] ?? 0) + OPEN_MOST_MS + RAMP_MS
            const turn = ask(health, who)
            expect(isCall(turn)).toBe(true)
          }
        },
      ),
      { numRuns: 300 },
    )
  })
})
