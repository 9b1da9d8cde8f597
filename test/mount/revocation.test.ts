import { describe, expect, it } from 'vitest'
import type { MountAnswer } from '../../src/mount/answer.ts'
import { MountFailure } from '../../src/mount/errors.ts'
import { createPipeline, DEFAULT_LIMITS, type PipelineOptions } from '../../src/mount/pipeline.ts'
import { compatPolicy, type Policy } from '../../src/mount/policy.ts'
import { openPublished } from '../../src/mount/published.ts'
import type { MountRequest } from '../../src/mount/request.ts'
import { createResolver } from '../../src/mount/resolver.ts'
import { isDenial } from '../../src/mount/revocation.ts'
import {
  BackendError,
  ERROR_KINDS,
  PlanError,
  type Dialect,
  type ErrorKind,
  type Host,
  type Output,
  type Plan,
} from '../../src/providers/adapter.ts'
import type { AuditRecord } from '../../src/telemetry/audit.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import type { Meter } from '../../src/telemetry/metrics.ts'
import { backendContext } from '../support/backend-context.ts'
import { memoryStore, type Held } from '../support/memory-adapter.ts'

const DENIALS: readonly ErrorKind[] = ['denied', 'not-found', 'gone']

/** A volume over the memory store, mounted again and again as kubelet does. */
async function volume(held: Record<string, Held>, changes: Partial<PipelineOptions> = {}) {
  const store = memoryStore(held)
  const records: AuditRecord[] = []
  const counts = new Map<string, number>()
  const lines: object[] = []
  /** Whether answers reach the driver. */
  const driver = { takes: true }
  const log = {
    ...silentLogger,
    warn: (message: string, fields: object = {}) => void lines.push({ message, ...fields }),
  }
  const meter: Meter = {
    count: (name, labels = {}) => {
      const key = `${name}{${Object.values(labels).join()}}`
      counts.set(key, (counts.get(key) ?? 0) + 1)
    },
    gauge: () => {},
    time: () => {},
  }
  const dialect = store.adapter.dialects?.[0] as Dialect
  const backend = store.adapter.backends?.[0]?.create(backendContext())
  const pipeline = createPipeline({
    dialect: () => Promise.resolve(dialect),
    resolver: createResolver({
      backend: async () => backend as never,
      cache: { freshForMs: 0, staleIfErrorMs: 0, immutableForMs: 0, maxBytes: 1 << 20 },
      meter,
      now: Date.now,
      random: () => 0,
    }),
    caller: (_request, context) => ({
      identityKey: () => 'pod',
      host: (_source, signal) => ({ signal, log }) as unknown as Host,
      signal: context.signal,
      // No time is left for retries.
      deadline: 0,
    }),
    addresses: () => Promise.resolve([]),
    policy: compatPolicy,
    versionKey: Buffer.alloc(32, 7),
    limits: DEFAULT_LIMITS,
    audit: (record) => records.push(record),
    meter,
    log,
    now: Date.now,
    onRevoked: 'remove',
    published: await openPublished({ log, now: Date.now }),
    ...changes,
  })
  const attempt = async (
    objects: string,
    more: Record<string, string> = {},
    targetPath = '/pods/u-1/mount',
  ): Promise<MountAnswer> => {
    const request: MountRequest = {
      pod: { name: 'web-0', namespace: 'shop', uid: 'u-1', serviceAccount: 'web' },
      secretProviderClass: 'web-secrets',
      parameters: new Map(Object.entries({ objects, ...more })),
      tokens: undefined,
      nodePublishSecret: new Map(),
      defaultMode: 0o640,
      targetPath,
    }
    records.length = 0
    const answer = await pipeline(request, {
      provider: 'memory',
      signal: AbortSignal.timeout(5_000),
      deadline: Date.now() + 5_000,
    })
    if (driver.takes) answer.delivered?.()
    return answer
  }
  /** Files by path, or the failure. */
  const mount = async (...args: Parameters<typeof attempt>): Promise<Record<string, string> | MountFailure> =>
    attempt(...args).then(
      ({ files }) => Object.fromEntries(files.map(({ path, contents }) => [path, contents.toString()])),
      (error: unknown) => {
        if (error instanceof MountFailure) return error
        throw error
      },
    )
  return { store, records, counts, lines, driver, attempt, mount }
}

describe('a denied object', () => {
  const table = ERROR_KINDS.flatMap((kind) =>
    (['first mount', 'republish'] as const).flatMap((call) =>
      (['keep', 'remove'] as const).map((onRevoked) => ({ kind, call, onRevoked })),
    ),
  )

  it.each(table)('sops B5 $kind at a $call with $onRevoked', async ({ kind, call, onRevoked }) => {
    const { mount, store, counts } = await volume({ a: { text: 'A' }, b: { text: 'B' } }, { onRevoked })
    if (call === 'republish') expect(await mount('a=a\nb=b')).toEqual({ a: 'A', b: 'B' })
    store.held.set('b', { fails: kind })
    const outcome = await mount('a=a\nb=b')
    const denied = DENIALS.includes(kind) && call === 'republish'
    if (denied && onRevoked === 'remove') expect(outcome).toEqual({ a: 'A' })
    else {
      expect(outcome).toBeInstanceOf(MountFailure)
      expect(outcome).toMatchObject({ kind })
    }
    expect(counts.get('keyferry_revoked_objects_total{memory}') ?? 0).toBe(
      denied && onRevoked === 'remove' ? 1 : 0,
    )
    expect(counts.get('keyferry_revoked_kept_total{memory}') ?? 0).toBe(
      denied && onRevoked === 'keep' ? 1 : 0,
    )
  })

  it('sops B5 a denial on the way to the object, such as a login, removes nothing', async () => {
    const { mount, store } = await volume({ a: { text: 'A' }, b: { text: 'B' } })
    await mount('a=a\nb=b')
    for (const kind of DENIALS) {
      store.held.set('b', {
        throws: new BackendError({ kind, code: 'LOGIN', message: 'no', indirect: true }),
      })
      expect(await mount('a=a\nb=b')).toMatchObject({ kind })
    }
  })

  it('sops B5 one object revoked and another unavailable: nothing is removed until the other is back', async () => {
    const { mount, store, counts } = await volume({ a: { text: 'A' }, b: { text: 'B' } })
    await mount('a=a\nb=b')
    store.held.set('b', { fails: 'denied' })
    store.held.set('a', { fails: 'unavailable' })
    expect(await mount('a=a\nb=b')).toBeInstanceOf(MountFailure)
    expect(counts.get('keyferry_revoked_kept_total{memory}')).toBe(1)
    store.held.set('a', { text: 'A2' })
    expect(await mount('a=a\nb=b')).toEqual({ a: 'A2' })
  })

  it('sops B5 versions are those of the remaining files; a file comes back when its object does', async () => {
    const { attempt, mount, store } = await volume({
      a: { text: 'A', version: '1' },
      b: { text: 'B', version: '2' },
    })
    await mount('a=a\nb=b')
    store.held.set('b', { fails: 'gone' })
    expect((await attempt('a=a\nb=b')).versions).toEqual([{ id: 'a', version: '1' }])
    store.held.set('b', { text: 'B', version: '3' })
    expect(await mount('a=a\nb=b')).toEqual({ a: 'A', b: 'B' })
  })

  it('sops B5 when none remains the answer is one empty file, which the driver takes notice of', async () => {
    const { attempt, mount, store, records } = await volume({ a: { text: 'A' }, b: { text: 'B' } })
    await mount('a=a\nb=b')
    store.held.clear()
    const answer = await attempt('a=a\nb=b')
    expect(answer.files).toEqual([{ path: '.revoked', mode: 0o444, contents: Buffer.alloc(0) }])
    expect(answer.versions).toEqual([{ id: '.revoked', version: '1' }])
    expect(records.map(({ outcome, kind, code }) => [outcome, kind, code])).toEqual([
      ['revoked', 'not-found', 'NOT_THERE'],
      ['revoked', 'not-found', 'NOT_THERE'],
    ])
    answer.release()
    expect(await mount('a=a\nb=b')).toEqual({ '.revoked': '' })
  })

  it('sops B5 optional objects that are all gone leave the same file behind', async () => {
    const { mount, store } = await volume({ a: { text: 'A' } })
    expect(await mount('a=a?')).toEqual({ a: 'A' })
    store.held.clear()
    expect(await mount('a=a?')).toEqual({ '.revoked': '' })
    const kept = await volume({ a: { text: 'A' } }, { onRevoked: 'keep' })
    await kept.mount('a=a?')
    kept.store.held.clear()
    expect(await kept.mount('a=a?')).toMatchObject({ kind: 'not-found' })
  })

  it('sops B5 an expanded object takes all its parts with it', async () => {
    const { mount, store } = await volume({ a: { text: 'A' }, doc: { parts: { x: '1', y: '2' } } })
    expect(await mount('a=a\nd=doc*')).toEqual({ a: 'A', 'd/x': '1', 'd/y': '2' })
    store.held.delete('doc')
    expect(await mount('a=a\nd=doc*')).toEqual({ a: 'A' })
  })

  it('sops B5 where the last of two objects with one file name counts, the first does not get the name back', async () => {
    const { mount, store } = await volume({ a: { text: 'A' }, b: { text: 'B' }, c: { text: 'C' } })
    const last = { duplicates: 'last-wins' }
    expect(await mount('f=a\nf=b\nc=c', last)).toEqual({ f: 'B', c: 'C' })
    store.held.delete('b')
    expect(await mount('f=a\nf=b\nc=c', last)).toEqual({ c: 'C' })
    store.held.set('b', { text: 'B' })
    store.held.delete('a')
    expect(await mount('f=a\nf=b\nc=c', last)).toEqual({ f: 'B', c: 'C' })
  })

  it('sops B5 a value that does not fit any more fails as ever, and so do files that collide', async () => {
    const { mount, store } = await volume({ a: { text: 'A' }, b: { text: 'B' }, doc: { parts: { x: '1' } } })
    const objects = 'a=a\nb=b\n=doc*'
    await mount(objects)
    store.held.delete('b')
    store.held.set('doc', { parts: { a: 'again' } })
    expect(await mount(objects)).toMatchObject({ message: expect.stringContaining('DUPLICATE_PATH') })
    store.held.set('doc', { parts: { '../x': '1' } })
    expect(await mount(objects)).toMatchObject({ message: expect.stringContaining('INVALID_PATH') })
  })

  it('sops B5 the class may say otherwise than the node, both ways', async () => {
    const held = { a: { text: 'A' }, b: { text: 'B' } }
    const keeping = await volume(held, { onRevoked: 'keep' })
    await keeping.mount('a=a\nb=b')
    keeping.store.held.delete('b')
    expect(await keeping.mount('a=a\nb=b', { onRevoked: 'remove' })).toEqual({ a: 'A' })
    const removing = await volume(held, { onRevoked: 'remove' })
    await removing.mount('a=a\nb=b')
    removing.store.held.delete('b')
    expect(await removing.mount('a=a\nb=b', { onRevoked: 'keep' })).toMatchObject({ kind: 'not-found' })
  })

  it('sops B5 another volume of the same pod is mounted for the first time, whatever this one was', async () => {
    const { mount, store } = await volume({ a: { text: 'A' }, b: { text: 'B' } })
    await mount('a=a\nb=b')
    store.held.delete('b')
    expect(await mount('a=a\nb=b', {}, '/pods/u-1/other')).toMatchObject({ kind: 'not-found' })
    expect(await mount('a=a\nb=b', {}, '')).toMatchObject({ kind: 'not-found' })
  })

  it('sops B5 after an answer that never reached the driver the next call is a first mount still', async () => {
    const { mount, store, driver } = await volume({ a: { text: 'A' }, b: { text: 'B' } })
    driver.takes = false
    expect(await mount('a=a\nb=b')).toEqual({ a: 'A', b: 'B' })
    store.held.delete('b')
    expect(await mount('a=a\nb=b')).toMatchObject({ kind: 'not-found' })
  })

  it('T25 is said once for each pod and object, and counted each time', async () => {
    const { mount, store, counts, lines } = await volume({ a: { text: 'A' }, b: { text: 'B' } })
    await mount('a=a\nb=b')
    store.held.set('b', { fails: 'denied' })
    await mount('a=a\nb=b')
    await mount('a=a\nb=b')
    expect(counts.get('keyferry_revoked_objects_total{memory}')).toBe(2)
    expect(counts.get('keyferry_objects_total{memory,revoked,none}')).toBe(2)
    expect(lines).toEqual([
      {
        message: 'an object of a running pod is denied',
        namespace: 'shop',
        pod: 'web-0',
        provider: 'memory',
        object: 'b',
        kind: 'denied',
        code: 'FAULT',
        files: 'removed',
      },
    ])
  })
})

describe('a gathered file', () => {
  const source = (ref: string) => ({ backend: 'memory', store: { name: 's' }, identity: 'pod' as const, ref })
  const outputs = (optional: boolean): readonly Output[] => [
    {
      kind: 'gather',
      path: 'all',
      object: 'all',
      mode: 0o400,
      source: source('a'),
      sources: [
        { source: source('a'), object: 'a' },
        { source: source('b'), object: 'b', optional },
      ],
      combine: (values) =>
        Buffer.from(values.map((value) => (value ? Buffer.from(value).toString() : '-')).join('')),
    },
    { kind: 'file', path: 'c', object: 'c', mode: 0o400, source: source('c') },
  ]
  const held = { a: { text: 'A' }, b: { text: 'B' }, c: { text: 'C' } }
  const gathered = (optional: boolean) =>
    volume(held, {
      dialect: () =>
        Promise.resolve({ name: 'memory', needs: {}, plan: () => ({ outputs: outputs(optional) }) }),
    })

  it('sops B5 goes with any object that it needs; what else it holds is not reported as delivered', async () => {
    const { mount, store, records } = await gathered(false)
    expect(await mount('')).toEqual({ all: 'AB', c: 'C' })
    store.held.delete('b')
    expect(await mount('')).toEqual({ c: 'C' })
    expect(records.map(({ object, outcome, code, version }) => [object, outcome, code, version])).toEqual([
      ['a', 'revoked', undefined, undefined],
      ['b', 'revoked', 'NOT_THERE', undefined],
      ['c', 'delivered', undefined, expect.any(String)],
    ])
  })

  it('sops B5 stays without an optional object', async () => {
    const { mount, store } = await gathered(true)
    await mount('')
    store.held.delete('b')
    expect(await mount('')).toEqual({ all: 'A-', c: 'C' })
  })
})

describe('what policy and stores withdraw', () => {
  it('sops B5 an object that policy no longer allows goes, and is not asked for', async () => {
    const state = { allowed: true }
    const policy: Policy = ({ source }) =>
      state.allowed || source.ref === 'a'
        ? { allowed: true, marks: [] }
        : { allowed: false, reason: 'is not for you', remedy: 'Ask' }
    const { mount, store, records, counts } = await volume({ a: { text: 'A' }, b: { text: 'B' } }, { policy })
    await mount('b=b\na=a')
    state.allowed = false
    store.calls.length = 0
    expect(await mount('b=b\na=a')).toEqual({ a: 'A' })
    expect(store.calls).toEqual([['a']])
    expect(records.map(({ object, outcome, code }) => [object, outcome, code])).toEqual([
      ['b', 'revoked', 'POLICY_DENIED'],
      ['a', 'delivered', undefined],
    ])
    expect(await mount('b=b\na=a', {}, '/other')).toMatchObject({
      message: 'POLICY_DENIED: object "b": is not for you [denied]. Ask.',
    })
    const kept = await volume({ a: { text: 'A' }, b: { text: 'B' } }, { policy, onRevoked: 'keep' })
    state.allowed = true
    await kept.mount('b=b')
    state.allowed = false
    expect(await kept.mount('b=b')).toMatchObject({ kind: 'denied' })
    expect(kept.counts.get('keyferry_revoked_kept_total{}')).toBe(1)
    expect(counts.get('keyferry_revoked_objects_total{memory}')).toBe(1)
  })

  /** A dialect whose parameters say what is withdrawn, and whether the class is at fault. */
  const withdrawing: Dialect = {
    name: 'memory',
    needs: {},
    plan: ({ parameters }) => {
      const file = (ref: string): Output => ({
        kind: 'file',
        path: ref,
        object: ref,
        mode: 0o400,
        source: { backend: 'memory', store: { name: 's' }, identity: 'pod', ref },
      })
      const withdrawn = (parameters.get('withdrawn') ?? '').split('')
      const plan: Plan = { outputs: ['a', 'b'].filter((ref) => !withdrawn.includes(ref)).map(file) }
      const problems = withdrawn.map((ref) => ({ kind: 'denied' as const, code: 'NOT_YOURS', message: ref }))
      if (parameters.has('faulty'))
        throw new PlanError([...problems, { code: 'FAULTY', message: 'no such field' }])
      if (problems.length > 0) throw new PlanError(problems, plan)
      return plan
    },
  }

  it('sops B5 an object whose rule was withdrawn goes; a fault of the class keeps everything', async () => {
    const { mount, records, store, lines } = await volume(
      { a: { text: 'A' }, b: { text: 'B' } },
      { dialect: () => Promise.resolve(withdrawing) },
    )
    expect(await mount('')).toEqual({ a: 'A', b: 'B' })
    expect(await mount('', { withdrawn: 'b' })).toEqual({ a: 'A' })
    expect(records.map(({ object, outcome, code }) => [object, outcome, code])).toEqual([
      ['a', 'delivered', undefined],
      ['*', 'revoked', 'NOT_YOURS'],
    ])
    expect(await mount('', { withdrawn: 'b', faulty: '' })).toMatchObject({ kind: 'config' })
    store.held.set('a', { fails: 'timeout' })
    expect(await mount('', { withdrawn: 'b' })).toMatchObject({
      failures: [{ kind: 'timeout' }, { kind: 'denied', code: 'NOT_YOURS' }],
    })
    store.held.set('a', { text: 'A' })
    expect(await mount('', { withdrawn: 'ab' })).toEqual({ '.revoked': '' })
    expect(lines.filter((line) => 'files' in line && line.files === 'removed')).toHaveLength(2)
    expect(await mount('', { withdrawn: 'ab' }, '/other')).toMatchObject({
      kind: 'denied',
      message: 'NOT_YOURS: a [denied]; NOT_YOURS: b [denied]',
    })
  })
})

it('sops B5 a refused token and a broken configuration are no denials', () => {
  expect(ERROR_KINDS.filter((kind) => isDenial({ kind }))).toEqual(DENIALS)
  expect(isDenial({ kind: 'gone', indirect: true })).toBe(false)
})
