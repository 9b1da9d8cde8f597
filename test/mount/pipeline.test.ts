import { planNow } from '../../src/mount/planner.ts'
import { describe, expect, it } from 'vitest'
import { SLICE_MS } from '../../src/formats/steps.ts'
import type { MountAnswer } from '../../src/mount/answer.ts'
import type { MountFailure } from '../../src/mount/errors.ts'
import { createPipeline, DEFAULT_LIMITS, type PipelineOptions } from '../../src/mount/pipeline.ts'
import { compatPolicy } from '../../src/mount/policy.ts'
import type { MountRequest } from '../../src/mount/request.ts'
import { createResolver } from '../../src/mount/resolver.ts'
import {
  SelectError,
  type Dialect,
  type Gathered,
  type GatherOutput,
  type Host,
  type Plan,
  type Source,
} from '../../src/providers/adapter.ts'
import type { AuditRecord } from '../../src/telemetry/audit.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { silentMeter } from '../../src/telemetry/metrics.ts'
import { SecretBytes } from '../../src/telemetry/secret-bytes.ts'
import { backendContext } from '../support/backend-context.ts'
import { memoryStore, type Held } from '../support/memory-adapter.ts'

const POD = { name: 'web-0', namespace: 'shop', uid: 'u-1', serviceAccount: 'web' }

function setUp(held: Record<string, Held>, changes: Partial<PipelineOptions> = {}) {
  const store = memoryStore(held)
  const records: AuditRecord[] = []
  const dialect = store.adapter.dialects?.[0] as Dialect
  const backend = store.adapter.backends?.[0]?.create(backendContext())
  let plans = 0
  const pipeline = createPipeline({
    dialect: () =>
      Promise.resolve({ ...dialect, plan: (request) => ((plans += 1), planNow(dialect, request)) }),
    resolver: createResolver({
      backend: async () => backend as never,
      cache: { freshForMs: 0, staleIfErrorMs: 0, immutableForMs: 0, maxBytes: 1 << 20 },
      meter: silentMeter,
      now: Date.now,
      random: () => 0,
    }),
    caller: (request, context) => ({
      identityKey: (identity) =>
        identity === 'node' ? 'node' : `${request.pod.namespace}/${request.pod.serviceAccount}`,
      host: (_source, signal) => ({ signal, log: silentLogger }) as unknown as Host,
      signal: context.signal,
      deadline: context.deadline,
    }),
    addresses: () => Promise.resolve([]),
    policy: compatPolicy,
    versionKey: Buffer.alloc(32, 7),
    limits: DEFAULT_LIMITS,
    audit: (record) => records.push(record),
    meter: silentMeter,
    log: silentLogger,
    now: Date.now,
    ...changes,
  })
  const mount = (
    objects: string | undefined,
    more: Record<string, string> = {},
    signal = AbortSignal.timeout(5_000),
  ): Promise<MountAnswer> => {
    const request: MountRequest = {
      pod: POD,
      secretProviderClass: 'web-secrets',
      parameters: new Map(Object.entries({ ...(objects !== undefined && { objects }), ...more })),
      tokens: undefined,
      nodePublishSecret: new Map([['k', SecretBytes.copyOf('v')]]),
      defaultMode: 0o640,
      targetPath: '',
    }
    return pipeline(request, {
      provider: 'memory',
      signal,
      deadline: Date.now() + 5_000,
    })
  }
  return { store, records, mount, dialect, plans: () => plans }
}

const files = (answer: MountAnswer): unknown =>
  answer.files.map(({ path, mode, contents }) => [path, mode.toString(8), contents.toString()])
const failure = (promise: Promise<unknown>): Promise<MountFailure> =>
  promise.then(
    () => expect.unreachable('it succeeded'),
    (error: unknown) => error as MountFailure,
  )

describe('a mount', () => {
  it('driver 8.4 answers every file in the order of the SPC, with the default mode and one version each', async () => {
    const { mount } = setUp({ a: { text: 'A', version: 'v1' }, b: { text: 'B' } })
    const answer = await mount('x/b=b\na=a\nagain=a')
    expect(files(answer)).toEqual([
      ['x/b', '640', 'B'],
      ['a', '640', 'A'],
      ['again', '640', 'A'],
    ])
    expect(answer.versions).toEqual([
      { id: 'x/b', version: expect.stringMatching(/^[0-9a-f]{32}$/) },
      { id: 'a', version: 'v1' },
      { id: 'again', version: 'v1' },
    ])
  })

  it('T23 a version without the backend’s is a keyed digest: it changes with content and key, and is no plain hash', async () => {
    const version = async (text: string, key: number): Promise<string | undefined> =>
      (await setUp({ a: { text } }, { versionKey: Buffer.alloc(32, key) }).mount('f=a')).versions[0]?.version
    const [one, same, otherText, otherKey] = await Promise.all([
      version('s', 1),
      version('s', 1),
      version('t', 1),
      version('s', 2),
    ])
    expect(one).toBe(same)
    expect(new Set([one, otherText, otherKey]).size).toBe(3)
    const { createHash } = await import('node:crypto')
    for (const algorithm of ['md5', 'sha1', 'sha256', 'sha512']) {
      const plain = createHash(algorithm).update('s').digest('hex')
      expect(plain.startsWith(one ?? 'x')).toBe(false)
    }
  })

  it('prepares the dialect with the parameters before it plans', async () => {
    const { dialect } = setUp({})
    const seen: string[] = []
    const preparing: Dialect = {
      ...dialect,
      async prepare({ parameters }) {
        await Promise.resolve()
        seen.push(`prepare ${parameters.get('objects')}`)
      },
      plan: (request) => (seen.push('plan'), planNow(dialect, request)),
    }
    const { mount } = setUp({ a: { text: 'A' } }, { dialect: () => Promise.resolve(preparing) })
    await mount('f=a')
    await mount('f=a')
    // The second mount is planned from what was kept.
    expect(seen).toEqual(['prepare f=a', 'plan', 'prepare f=a'])
  })

  it('T17 others have their turn while many long selections are made', async () => {
    const { dialect } = setUp({})
    const slow = (bytes: Uint8Array): Uint8Array => {
      const end = performance.now() + 3
      while (performance.now() < end);
      return bytes
    }
    const planning: Dialect = {
      ...dialect,
      plan: (request) => ({
        outputs: planNow(dialect, request).outputs.map(({ source, object, mode }) => ({
          kind: 'file',
          path: object,
          object,
          mode,
          source,
          select: slow,
        })),
      }),
    }
    const names = Array.from({ length: 60 }, (_, index) => `f${index}`)
    const held = Object.fromEntries(names.map((name) => [name, { text: name }]))
    const { mount } = setUp(held, { dialect: () => Promise.resolve(planning) })
    let turns = 0
    let counting = true
    const count = (): void => {
      turns += 1
      if (counting) setImmediate(count)
    }
    const mounted = mount(names.map((name) => `${name}=${name}`).join('\n'))
    setImmediate(count)
    expect(files(await mounted)).toHaveLength(60)
    counting = false
    // 180 ms of selecting in slices of 8.
    expect(turns).toBeGreaterThan(15)
  })

  it('driver 8.6 any object’s failure fails the whole mount and names each failing one', async () => {
    const { mount } = setUp({ a: { text: 'A' }, b: { fails: 'denied' } })
    const error = await failure(mount('a=a\nb=b\nc=c'))
    expect(error.grpcCode).toBe(7)
    expect(error.message).toBe(
      'FAULT: object "b": the store says denied [denied]; NOT_THERE: object "c": no key c [not-found]. Create it.',
    )
  })

  it('driver 8.6 an optional object that does not exist is left out; one that is denied is not', async () => {
    const { mount, records } = setUp({ a: { text: 'A' }, c: { fails: 'denied' } })
    expect(files(await mount('a=a\nb=b?'))).toEqual([['a', '640', 'A']])
    expect(records.map((record) => record.outcome)).toEqual(['delivered', 'omitted'])
    expect((await failure(mount('a=a\nc=c?'))).grpcCode).toBe(7)
  })

  it('driver 3 never answers without files, since the driver would take that for success', async () => {
    expect(await failure(setUp({}).mount('b=b?'))).toMatchObject({
      grpcCode: 5,
      message: expect.stringContaining('NO_FILES'),
    })
    expect(await failure(setUp({}).mount(''))).toMatchObject({
      grpcCode: 3,
      message: expect.stringContaining('NO_OBJECTS'),
    })
  })

  it('T9 refuses paths and collisions before it calls any backend', async () => {
    const { mount, store } = setUp({ a: { text: 'A' } })
    expect((await failure(mount('../x=a'))).message).toContain(
      'INVALID_PATH: object "a": file path "../x" begins with',
    )
    expect((await failure(mount('f=a\nf=a'))).message).toContain('DUPLICATE_PATH')
    expect((await failure(mount('f=a\nf/g=a'))).message).toContain('PATH_CONFLICT')
    expect(store.calls).toEqual([])
  })

  it('a dialect may say that the last of two files with one name wins', async () => {
    const { mount } = setUp({ a: { text: 'A' }, b: { text: 'B' } })
    expect(files(await mount('f=a\nf=b', { duplicates: 'last-wins' }))).toEqual([['f', '640', 'B']])
  })

  it('expands a value into its parts and checks their names like any path', async () => {
    const { mount } = setUp({
      doc: { parts: { one: '1', 'two/x': '2' }, version: 'v' },
      bad: { parts: { '../up': '1' } },
      clash: { parts: { f: '1' } },
    })
    expect(files(await mount('dir=doc*'))).toEqual([
      ['dir/one', '640', '1'],
      ['dir/two/x', '640', '2'],
    ])
    expect(await failure(mount('=bad*'))).toMatchObject({
      grpcCode: 3,
      message: expect.stringContaining('its part "../up" cannot be a file: the path begins with \'..\''),
    })
    expect((await failure(mount('f=doc\n=clash*'))).message).toContain('DUPLICATE_PATH')
  })

  it('T14 a file over the limit names its size and the limit', async () => {
    const { mount } = setUp(
      { a: { text: 'x'.repeat(11) } },
      { limits: { maxOutputs: 5, maxFileBytes: 10, maxTotalBytes: 50 } },
    )
    expect(await failure(mount('f=a'))).toMatchObject({
      grpcCode: 11,
      message: expect.stringContaining('has 11 bytes; the limit is 10'),
    })
  })

  it('every fault of an SPC is INVALID_ARGUMENT with its remedy', async () => {
    expect(await failure(setUp({}).mount(undefined))).toMatchObject({
      grpcCode: 3,
      message: 'MEMORY_NO_OBJECTS: parameter objects is missing [config]. Add it.',
    })
  })

  it('the policy is asked for every object before any backend is called', async () => {
    const { mount, store } = setUp(
      { a: { text: 'A' } },
      {
        policy: ({ source }) =>
          source.identity === 'node'
            ? { allowed: false, reason: 'is not for node', remedy: 'Ask' }
            : { allowed: true, marks: [] },
      },
    )
    const error = await failure(mount('a=a\nb=a!'))
    expect(error).toMatchObject({
      grpcCode: 7,
      message: 'POLICY_DENIED: object "a": is not for node [denied]. Ask.',
    })
    expect(store.calls).toEqual([])
  })

  it('plans an unchanged SPC once, also when it carries a large document', async () => {
    const { mount, plans } = setUp({ a: { text: 'A' } })
    const document = 'x'.repeat(500_000)
    await mount('a=a', { document })
    await mount('a=a', { document })
    expect(plans()).toBe(1)
    await mount('a=a', { document: `${document.slice(1)}y` })
    expect(plans()).toBe(2)
  })

  it('T17 forgets the oldest plans when their documents together are large', async () => {
    const { mount, plans } = setUp({ a: { text: 'A' } })
    const document = (index: number): string => String(index).repeat(1_000_000)
    for (const index of [1, 2, 3, 4, 5]) await mount('a=a', { document: document(index) })
    await mount('a=a', { document: document(5) })
    expect(plans()).toBe(5)
    await mount('a=a', { document: document(1) })
    expect(plans()).toBe(6)
  })

  it('plans an unchanged SPC once: a republish parses nothing', async () => {
    const { mount, plans } = setUp({ a: { text: 'A' } })
    await mount('a=a')
    await mount('a=a')
    expect(plans()).toBe(1)
    await mount('a=a', { other: '1' })
    expect(plans()).toBe(2)
  })

  it('T27 leaves one audit record per object, also when the mount fails or the SPC is refused', async () => {
    const { mount, records } = setUp({ a: { text: 'A', version: '7' } })
    await mount('f=a')
    expect(records).toEqual([
      {
        namespace: 'shop',
        serviceAccount: 'web',
        pod: 'web-0',
        podUid: 'u-1',
        secretProviderClass: 'web-secrets',
        provider: 'memory',
        backend: 'memory',
        store: undefined,
        identity: 'pod',
        object: 'a',
        files: ['f'],
        version: '7',
        marks: [],
        outcome: 'delivered',
        kind: undefined,
        code: undefined,
        from: 'backend',
        latencyMs: expect.any(Number),
      },
    ])
    records.length = 0
    await failure(mount('f=a\ng=gone'))
    expect(records.map(({ object, outcome, code }) => [object, outcome, code])).toEqual([
      ['a', 'failed', undefined],
      ['gone', 'failed', 'NOT_THERE'],
    ])
    records.length = 0
    await failure(mount(undefined))
    expect(records.map(({ object, outcome, code }) => [object, outcome, code])).toEqual([
      ['*', 'failed', 'MEMORY_NO_OBJECTS'],
    ])
  })

  it('T24 release overwrites what was answered, and leaves the cached value alone', async () => {
    const { mount, store } = setUp({ a: { text: 'AAAA' } })
    const answer = await mount('f=a')
    const sent = answer.files[0]?.contents
    expect(sent?.toString()).toBe('AAAA')
    answer.release()
    answer.release()
    expect(sent?.length).toBe(0)
    expect(store.given[0]?.reveal().toString()).toBe('\0\0\0\0')
  })

  it('logs a warning about a class once, however often its volume is published again', async () => {
    const lines: unknown[] = []
    const log = { ...silentLogger, warn: (_message: string, fields?: object) => lines.push(fields) }
    const { mount, dialect } = setUp({ a: { text: 'A' } })
    const warning: Dialect = {
      ...dialect,
      plan: (request) => ({ ...planNow(dialect, request), warnings: ['is old'] }),
    }
    const { mount: warned } = setUp({ a: { text: 'A' } }, { log, dialect: () => Promise.resolve(warning) })
    await mount('f=a')
    await warned('f=a')
    await warned('f=a')
    expect(lines).toEqual([
      {
        namespace: 'shop',
        pod: 'web-0',
        provider: 'memory',
        secretProviderClass: 'web-secrets',
        warning: 'is old',
      },
    ])
  })

  it('hands the names of the node-publish Secret to a dialect only when it says so', async () => {
    const seen: ReadonlySet<string>[] = []
    const dialect = (needs: Dialect['needs']): Dialect => ({
      name: 'x',
      needs,
      plan: (request) => (seen.push(request.nodePublishKeys), { outputs: [] }),
    })
    await failure(setUp({}, { dialect: () => Promise.resolve(dialect({})) }).mount(''))
    await failure(
      setUp({}, { dialect: () => Promise.resolve(dialect({ nodePublishSecret: true })) }).mount(''),
    )
    expect(seen.map((keys) => [...keys])).toEqual([[], ['k']])
  })
})

/** A mount whose plan is this one. */
function planned(held: Record<string, Held>, plan: Plan, changes: Partial<PipelineOptions> = {}) {
  const dialect: Dialect = { name: 'memory', needs: {}, plan: () => plan }
  return setUp(held, { dialect: () => Promise.resolve(dialect), ...changes })
}

describe('a file gathered from several objects', () => {
  const from = (ref: string, store = 'one'): Source => ({
    backend: 'memory',
    store: { name: store },
    identity: 'pod',
    ref,
    name: store,
  })
  const gather = (sources: readonly Gathered[], changes: Partial<GatherOutput> = {}): Plan => ({
    outputs: [
      {
        kind: 'gather',
        path: 'all.txt',
        object: 'all.txt',
        mode: 0o400,
        source: sources[0]?.source ?? from('none'),
        sources,
        combine: (values) =>
          Buffer.from(values.map((value) => (value ? Buffer.from(value).toString() : '-')).join('+')),
        ...changes,
      },
    ],
  })
  const a: Gathered = { source: from('a'), object: 'one/a' }
  const b: Gathered = { source: from('b', 'two'), object: 'two/b' }

  it('is made of the selected values in their order, and its version changes with any of them', async () => {
    const shout: Gathered = { ...b, select: (bytes) => Buffer.from(Buffer.from(bytes).toString() + '!') }
    const one = planned({ a: { text: 'A' }, b: { text: 'B' } }, gather([a, shout, a]))
    const answer = await one.mount('')
    expect(files(answer)).toEqual([['all.txt', '400', 'A+B!+A']])
    const other = await planned({ a: { text: 'A' }, b: { text: 'C' } }, gather([a, shout, a])).mount('')
    expect(other.versions).not.toEqual(answer.versions)
    expect(await one.mount('').then(({ versions }) => versions)).toEqual(answer.versions)
  })

  /** Twelve objects, each of which takes longer to select than a slice of time. */
  const slow = (during: () => void): Plan => {
    const select = (bytes: Uint8Array): Uint8Array => {
      during()
      for (const end = performance.now() + SLICE_MS + 1; performance.now() < end;);
      return bytes
    }
    return gather(Array.from({ length: 12 }, (_, index) => ({ ...a, object: `one/${index}`, select })))
  }

  it('T14 is not made of objects that have more bytes together than a response, nor are files', async () => {
    const limits = { ...DEFAULT_LIMITS, maxTotalBytes: 1000 }
    const held = { a: { text: 'x'.repeat(400) } }
    let selected = 0
    const many = Array.from({ length: 100 }, (_, index) => ({
      ...a,
      object: `one/${index}`,
      select: (bytes: Uint8Array) => ((selected += 1), bytes),
    }))
    const gathered = await failure(planned(held, gather(many), { limits }).mount(''))
    expect(gathered.message).toContain('the objects of "all.txt" have more than 1000 bytes together')
    expect([gathered.grpcCode, selected]).toEqual([11, 3])

    selected = 0
    const outputs = many.map(
      (one, index) => ({ ...one, kind: 'file', path: `f${index}`, mode: 0o400 }) as const,
    )
    const { mount, records } = planned(held, { outputs }, { limits })
    const large = await failure(mount(''))
    expect(large.message).toMatch(
      /^RESPONSE_TOO_LARGE: the files of this volume have more than 1000 bytes together/,
    )
    expect([large.grpcCode, selected, records.length]).toEqual([11, 3, 100])
  })

  it('T17 gives others their turn between its objects', async () => {
    let inARow = 0
    let most = 0
    const { mount } = planned(
      { a: { text: 'A' } },
      slow(() => {
        most = Math.max(most, (inARow += 1))
        setImmediate(() => (inARow = 0))
      }),
    )
    await mount('')
    expect(most).toBeLessThan(4)
  })

  it('T17 is not made any further once nobody waits for it', async () => {
    const left = new AbortController()
    let selected = 0
    const plan = slow(() => {
      selected += 1
      left.abort()
    })
    const { mount, store } = planned({ a: { text: 'A' } }, plan)
    const error = await failure(mount('', {}, left.signal))
    expect(error.failures).toMatchObject([{ kind: 'timeout', code: 'BUDGET_EXHAUSTED' }])
    expect(selected).toBe(1)
    expect(store.given.map((secret) => secret.reveal().toString())).toEqual(['\0'])
  })

  it('T27 marks each object for itself: the node’s identity of one is not the other’s', async () => {
    const node: Gathered = { source: { ...from('b'), identity: 'node' }, object: 'one/b' }
    const { mount, records } = planned({ a: { text: 'A' }, b: { text: 'B' } }, gather([a, node]))
    await mount('')
    expect(records.map(({ object, identity, marks }) => [object, identity, marks])).toEqual([
      ['one/a', 'pod', []],
      ['one/b', 'node', ['node-identity']],
    ])
  })

  it('T27 leaves one audit record for each object, with its own store', async () => {
    const { mount, records } = planned({ a: { text: 'A' }, b: { text: 'B' } }, gather([a, b]))
    await mount('')
    expect(
      records.map(({ object, store, files: paths, outcome }) => [object, store, paths, outcome]),
    ).toEqual([
      ['one/a', 'one', ['all.txt'], 'delivered'],
      ['two/b', 'two', ['all.txt'], 'delivered'],
    ])
  })

  it('fails with every object that fails, each by its name', async () => {
    const broken: Gathered = {
      ...a,
      select: () => {
        throw new SelectError({ kind: 'malformed', code: 'FAULT', message: 'it is odd' })
      },
    }
    const { mount, records } = planned({ a: { text: 'A' }, b: { fails: 'denied' } }, gather([broken, b]))
    const error = await failure(mount(''))
    expect(error.message).toBe(
      'FAULT: object "one/a" (all.txt): it is odd [malformed]; FAULT: object "two/b" (all.txt): the store says denied [denied]',
    )
    expect(error.grpcCode).toBe(7)
    expect(records.map(({ kind, outcome }) => [kind, outcome])).toEqual([
      ['malformed', 'failed'],
      ['denied', 'failed'],
    ])
  })

  it('leaves an optional object that does not exist out, and the file when none exists', async () => {
    const gone: Gathered = { source: from('gone'), object: 'one/gone', optional: true }
    expect(files(await planned({ a: { text: 'A' } }, gather([gone, a])).mount(''))).toEqual([
      ['all.txt', '400', '-+A'],
    ])
    expect((await failure(planned({}, gather([gone])).mount(''))).message).toContain('NO_FILES')
    expect((await failure(planned({}, gather([gone, a])).mount(''))).message).toContain('object "one/a"')
  })

  it('turns whatever combine throws into one failure, and holds the file to its limit', async () => {
    const odd = gather([a], {
      combine: () => {
        throw new TypeError('a bug that saw A')
      },
    })
    const error = await failure(planned({ a: { text: 'A' } }, odd).mount(''))
    expect(error.message).toMatch(/^INTERNAL: object "all.txt"/)
    expect(error.message).not.toContain('saw')
    const large = gather([a], { combine: () => Buffer.alloc(DEFAULT_LIMITS.maxFileBytes + 1) })
    expect((await failure(planned({ a: { text: 'A' } }, large).mount(''))).grpcCode).toBe(11)
  })

  it('T2 every object passes the policy for itself', async () => {
    const dialect: Dialect = { name: 'memory', needs: {}, plan: () => gather([a, b]) }
    const { mount, store } = setUp(
      { a: { text: 'A' }, b: { text: 'B' } },
      {
        dialect: () => Promise.resolve(dialect),
        policy: ({ source }) =>
          source.name === 'two'
            ? { allowed: false, reason: 'not this store', remedy: 'Ask' }
            : { allowed: true, marks: [] },
      },
    )
    expect((await failure(mount(''))).message).toBe(
      'POLICY_DENIED: object "two/b": not this store [denied]. Ask.',
    )
    expect(store.calls).toEqual([])
  })
})

describe('a document expanded by its dialect', () => {
  it('is as many files as it is split into, each with a version of its own', async () => {
    const { mount } = planned(
      { a: { text: 'x=1,y=2' } },
      {
        outputs: [
          {
            kind: 'expand',
            into: 'd',
            object: 'one/a',
            mode: 0o444,
            source: { backend: 'memory', store: { name: 'one' }, identity: 'pod', ref: 'a' },
            split: (bytes) =>
              Buffer.from(bytes)
                .toString()
                .split(',')
                .map((pair) => ({ name: pair.slice(0, 1), bytes: Buffer.from(pair.slice(2)) })),
          },
        ],
      },
    )
    const answer = await mount('')
    expect(files(answer)).toEqual([
      ['d/x', '444', '1'],
      ['d/y', '444', '2'],
    ])
    expect(new Set(answer.versions.map(({ version }) => version)).size).toBe(2)
  })
})
