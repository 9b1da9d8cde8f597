/** The configuration file while the process runs: when it is read again, what is put in force, and what is told. */
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest'
import { createProviderProcess, type ProviderProcess } from '../../src/commands/provider-process.ts'
import { keysThatNeedRestart, LIVE_KEYS, watchConfig } from '../../src/commands/reload.ts'
import { ConfigError, parseConfig, type LoadedConfig } from '../../src/config.ts'
import { MountFailure } from '../../src/mount/errors.ts'
import type { LogFields, Logger } from '../../src/telemetry/log.ts'
import { createMeter, type ReadableMeter } from '../../src/telemetry/metrics.ts'
import { memory, MEMORY_MODULE } from '../support/memory-module.ts'
import { listeningPorts } from '../support/serve-process.ts'
import { sopsNode } from '../support/sops-node.ts'

const scratch = mkdtempSync(join(tmpdir(), 'keyferry-reload-'))
afterAll(() => rmSync(scratch, { recursive: true }))

interface Line {
  readonly level: string
  readonly message: string
  readonly fields: LogFields
}

function recorder(lines: Line[]): Logger {
  const at =
    (level: string) =>
    (message: string, fields: LogFields = {}) =>
      void lines.push({ level, message, fields })
  const logger: Logger = {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    with: () => logger,
  }
  return logger
}

/** A directory as the kubelet keeps a ConfigMap volume: the file is a link into a directory that is a link. */
function configMap(text: string) {
  const volume = mkdtempSync(join(scratch, 'volume-'))
  let generation = 0
  const put = (next: string): void => {
    generation += 1
    const data = `..data-${generation}`
    mkdirSync(join(volume, data))
    writeFileSync(join(volume, data, 'config.yaml'), next)
    symlinkSync(data, join(volume, '..data_tmp'))
    renameSync(join(volume, '..data_tmp'), join(volume, '..data'))
  }
  put(text)
  const file = join(volume, 'config.yaml')
  symlinkSync('..data/config.yaml', file)
  return { file, put, remove: () => rmSync(file) }
}

/** A watch that looks only when it is told to, and what has come of that. */
async function watching(text: string, apply?: (reading: LoadedConfig) => Promise<void>) {
  const volume = configMap(text)
  const meter = await createMeter()
  const lines: Line[] = []
  const applied: LoadedConfig['config'][] = []
  const watch = watchConfig({
    file: volume.file,
    started: parseConfig(volume.file, text),
    parse: (next) => parseConfig(volume.file, next),
    apply: async (reading) => {
      await apply?.(reading)
      applied.push(reading.config)
    },
    log: recorder(lines),
    meter,
    lookMs: 3_600_000,
  })
  onTestFinished(() => watch.close())
  return { ...volume, watch, lines, applied, figures: () => figuresOf(meter) }
}

/** Lines of the two figures about the configuration. */
async function figuresOf(meter: ReadableMeter): Promise<string[]> {
  return (await meter.text()).split('\n').filter((line) => line.startsWith('keyferry_config_'))
}

describe('the file', () => {
  it('counts as changed when two looks in a row find the same new text, once', async () => {
    const { put, watch, applied, lines, figures } = await watching('log: {level: info}')
    await watch.look()
    await watch.look()
    expect(applied).toEqual([])
    put('log: {level: debug}')
    await watch.look()
    expect(applied).toEqual([])
    await watch.look()
    await watch.look()
    expect(applied.map(({ log }) => log.level)).toEqual(['debug'])
    expect(lines.map(({ level, message }) => `${level} ${message}`)).toEqual(['info configuration reloaded'])
    expect(await figures()).toEqual([
      'keyferry_config_reloads_total{outcome="applied"} 1',
      'keyferry_config_not_in_force 0',
    ])
  })

  it('that is still being written is not taken', async () => {
    const { put, watch, applied } = await watching('policy: {profile: hardened}')
    for (const text of ['policy: {}', 'policy: {}\ncache: {}', 'policy: {}\ncache: {}\nstores: {}']) {
      put(text)
      await watch.look()
    }
    expect(applied).toEqual([])
    await watch.look()
    expect(applied).toHaveLength(1)
  })

  it('is read at once when told so', async () => {
    const { put, watch, applied } = await watching('{}')
    put('cache: {freshFor: 5s}')
    await watch.look('now')
    expect(applied.map(({ cache }) => cache.freshFor)).toEqual([5000])
    await watch.look()
    expect(applied).toHaveLength(1)
  })

  it.each([
    ['a typo', 'cache:\n  freshFro: 5s\n', /config\.yaml:2:13: cache\.freshFro is not a known key$/],
    ['no YAML', 'cache: {', /config\.yaml:1:9: /],
    ['nothing in it', '  \n', /config\.yaml:1:1: is empty$/],
  ])(
    'with %s leaves the old one in force, is told once, and shows in the figures',
    async (_, text, reason) => {
      const { put, watch, applied, lines, figures } = await watching('log: {level: info}')
      put(text)
      for (let looks = 0; looks < 4; looks += 1) await watch.look()
      expect(applied).toEqual([])
      expect(lines).toEqual([
        {
          level: 'error',
          message: 'configuration not reloaded, the old one stays in force',
          fields: { reason: expect.stringMatching(reason) },
        },
      ])
      expect(await figures()).toEqual([
        'keyferry_config_reloads_total{outcome="failed"} 1',
        'keyferry_config_not_in_force 1',
      ])
      put('log: {level: info}')
      await watch.look()
      await watch.look()
      expect((await figures()).at(-1)).toBe('keyferry_config_not_in_force 0')
    },
  )

  it('that is gone leaves the old one in force', async () => {
    const { remove, watch, applied, lines } = await watching('log: {level: info}')
    remove()
    for (let looks = 0; looks < 3; looks += 1) await watch.look()
    expect(applied).toEqual([])
    expect(lines.map(({ fields }) => fields['reason'])).toEqual([
      expect.stringMatching(/config\.yaml: cannot be read \(ENOENT\)$/),
    ])
  })

  it('whose rules cannot be put in force is told of as a broken one is', async () => {
    const { put, watch, lines } = await watching('{}', () =>
      Promise.reject(new ConfigError('c.yaml:3:4: stores.a.backend is "x"')),
    )
    put('cache: {}')
    await watch.look('now')
    expect(lines.map(({ fields }) => fields['reason'])).toEqual(['c.yaml:3:4: stores.a.backend is "x"'])
  })

  it('with changes that need a restart: the rest is applied, and those keys are told of once', async () => {
    const { put, watch, applied, lines, figures } = await watching('limits: {budget: 90s}')
    const more = 'limits: {budget: 30s}\nbackends: {sops: {}}'
    put(`${more}\ncache: {freshFor: 1s, maxBytes: 1MiB}`)
    await watch.look('now')
    put(`${more}\ncache: {freshFor: 2s, maxBytes: 1MiB}`)
    await watch.look('now')
    expect(applied.map(({ cache }) => cache.freshFor)).toEqual([1000, 2000])
    expect(lines.filter(({ level }) => level === 'warn')).toEqual([
      {
        level: 'warn',
        message: 'some changes of the configuration need a restart',
        fields: expect.objectContaining({ keys: ['backends.sops', 'cache.maxBytes', 'limits.budget'] }),
      },
    ])
    expect(await figures()).toEqual([
      'keyferry_config_reloads_total{outcome="partial"} 2',
      'keyferry_config_not_in_force 1',
    ])
  })
})

it('keys that are put in force at once are keys of the configuration, and no others need a restart for nothing', () => {
  const { config } = parseConfig('c.yaml', '')
  for (const key of LIVE_KEYS) {
    const [top = '', below] = key.split('.')
    const value: unknown = config[top as keyof typeof config]
    expect(below === undefined ? config : value, key).toHaveProperty(below ?? top)
  }
  const live =
    'policy: {profile: hardened}\nstores: {a: {backend: sops}}\nlog: {level: warn}\ncache: {freshFor: 0}'
  expect(keysThatNeedRestart(config, parseConfig('c.yaml', live).config)).toEqual([])
  expect(
    keysThatNeedRestart(config, parseConfig('c.yaml', "kubernetes: 'off'\nadapters: [a]").config),
  ).toEqual(['adapters', 'kubernetes', 'kubernetes.tokenRequests'])
})

describe('rules in force', () => {
  beforeEach(() => {
    memory.held.clear()
    memory.held.set('shop.db', { text: 'abc' }).set('shop.api', { text: 'def' })
    memory.calls.length = 0
    memory.before = () => {}
  })

  const CENTRAL = {
    backend: 'memory',
    settings: { name: 'a' },
    allow: [{ namespaces: ['shop'], keys: ['shop.*'] }],
  }
  const configured = (changes: object): LoadedConfig =>
    parseConfig(
      'c.yaml',
      JSON.stringify({
        kubernetes: 'off',
        cache: { freshFor: '1h' },
        stores: { central: CENTRAL },
        ...changes,
        adapters: [MEMORY_MODULE],
      }),
    )

  async function started(changes: object = {}) {
    const meter = await createMeter()
    const lines: Line[] = []
    const process = await createProviderProcess({
      loaded: configured(changes),
      log: recorder(lines),
      audit: () => {},
      meter,
      env: {},
    })
    onTestFinished(() => process.close())
    return { process, meter, lines, mount: (files?: string) => mount(process, files) }
  }

  /** Contents of the only file, or the error's text. */
  async function mount(
    process: ProviderProcess,
    files = '[{path: db, store: central, key: shop.db}]',
    stores = '',
  ) {
    try {
      const answer = await process.pipeline(
        {
          pod: { name: 'web-0', namespace: 'shop', uid: 'u', serviceAccount: 'web' },
          secretProviderClass: 'db',
          parameters: new Map([
            ['files', files],
            ['stores', stores],
          ]),
          tokens: undefined,
          nodePublishSecret: new Map(),
          defaultMode: 0o644,
          targetPath: '',
        },
        { provider: 'keyferry', signal: AbortSignal.timeout(5000), deadline: Date.now() + 5000 },
      )
      return answer.files.map(({ contents }) => contents.toString()).join()
    } catch (error) {
      if (error instanceof MountFailure) return error.message
      throw error
    }
  }

  it.each([
    ['is taken away', {}, /KEYFERRY_UNKNOWN_STORE/],
    [
      'is for others',
      { central: { ...CENTRAL, allow: [{ namespaces: ['pay'] }] } },
      /KEYFERRY_UNKNOWN_STORE/,
    ],
    [
      'has no such key any more',
      { central: { ...CENTRAL, allow: [{ namespaces: ['shop'], keys: ['shop.api'] }] } },
      /KEYFERRY_KEY_DENIED/,
    ],
  ])(
    'T1 T7 a store that %s gives nothing, although its value is in the cache',
    async (_, stores, refusal) => {
      const { process, mount } = await started()
      expect(await mount()).toBe('abc')
      expect(await mount()).toBe('abc')
      expect(memory.calls).toEqual([['shop.db']])
      await process.apply(configured({ stores }))
      expect(await mount()).toMatch(refusal)
      await process.apply(configured({}))
      expect(await mount()).toBe('abc')
      // What is allowed again comes from the cache: it was there, and not served.
      expect(memory.calls).toEqual([['shop.db']])
    },
  )

  it('T1 T7 a class may define stores as long as policy says so, although their values are in the cache', async () => {
    const allowed = { policy: { inlineStores: 'allow' } }
    const { process } = await started(allowed)
    const own = () =>
      mount(process, '[{path: db, store: own, key: shop.db}]', 'own: {backend: memory, settings: {name: a}}')
    expect(await own()).toBe('abc')
    await process.apply(configured({}))
    expect(await own()).toContain('KEYFERRY_INLINE_STORES')
    await process.apply(configured(allowed))
    expect(await own()).toBe('abc')
    expect(memory.calls).toEqual([['shop.db']])
  })

  it('T7 a store of the configuration and one of a class with equal settings share a value of one identity', async () => {
    const { process, mount: named } = await started({ policy: { inlineStores: 'allow' } })
    expect(await named()).toBe('abc')
    const own = (name: string) =>
      mount(
        process,
        '[{path: db, store: own, key: shop.db}]',
        `own: {backend: memory, settings: {name: ${name}}}`,
      )
    expect(await own('a')).toBe('abc')
    expect(memory.calls).toEqual([['shop.db']])
    expect(await own('b')).toBe('abc')
    expect(memory.calls).toHaveLength(2)
  })

  it('a mount under way ends under the rules it began with; the next one has the new ones', async () => {
    const { process, mount } = await started({ cache: { freshFor: 0 } })
    const asked = Promise.withResolvers<void>()
    const go = Promise.withResolvers<void>()
    memory.before = () => {
      asked.resolve()
      return go.promise
    }
    const before = mount()
    await asked.promise
    await process.apply(configured({ stores: {}, cache: { freshFor: 0 } }))
    const after = mount()
    expect(await after).toContain('KEYFERRY_UNKNOWN_STORE')
    go.resolve()
    expect(await before).toBe('abc')
  })

  it('cache.freshFor counts from the next mount on, both ways', async () => {
    const { process, mount } = await started()
    await mount()
    await process.apply(configured({ cache: { freshFor: 0 } }))
    await mount()
    await mount()
    expect(memory.calls).toHaveLength(3)
    await process.apply(configured({}))
    await mount()
    await mount()
    expect(memory.calls).toHaveLength(4)
  })

  it('cache.staleIfError counts from the next mount on, both ways', async () => {
    const { process, mount } = await started({ cache: { freshFor: 0, staleIfError: '1h' } })
    await mount()
    memory.held.set('shop.db', { fails: 'unavailable' })
    expect(await mount()).toBe('abc')
    await process.apply(configured({ cache: { freshFor: 0, staleIfError: 0 } }))
    expect(await mount()).toContain('the store says unavailable')
  }, 20_000)

  it('T28 are named by a hash over policy and stores, the old name disappears, and the change is logged', async () => {
    const { process, meter, lines } = await started()
    const before = process.policy
    const series = async () => (await meter.text()).match(/^keyferry_policy_info\{.*$/gm)
    expect(await series()).toEqual([`keyferry_policy_info{hash="${before.hash}",profile="compat"} 1`])
    await process.apply(configured({ stores: { central: { ...CENTRAL, allow: [] } } }))
    const after = process.policy
    expect(after.hash).not.toBe(before.hash)
    expect(await series()).toEqual([`keyferry_policy_info{hash="${after.hash}",profile="compat"} 1`])
    expect(lines.filter(({ message }) => message === 'policy changed')).toEqual([
      {
        level: 'info',
        message: 'policy changed',
        fields: { from: before.hash, to: after.hash, profile: 'compat' },
      },
    ])
    await process.apply(configured({ policy: { profile: 'hardened' } }))
    expect(await series()).toEqual([expect.stringContaining('profile="hardened"')])
  })

  it('T28 have one name however the keys of a mapping are ordered, and another when a list is', async () => {
    const other = {
      allow: [{ keys: ['shop.*'], namespaces: ['shop'] }],
      backend: 'memory',
      settings: { name: 'a' },
    }
    const two = { backend: 'memory', settings: { name: 'a' }, allow: [{ namespaces: ['shop'] }] }
    const { process } = await started({ stores: { central: CENTRAL, two } })
    const before = process.policy.hash
    await process.apply(configured({ stores: { two, central: other } }))
    expect(process.policy.hash).toBe(before)
    const allow = [{ namespaces: ['shop', 'pay'] }]
    await process.apply(configured({ stores: { two: { ...two, allow }, central: other } }))
    expect(process.policy.hash).not.toBe(before)
  })

  it.each([
    ['a backend that is not there', { stores: { central: { backend: 'memry' } } }, 'stores.central.backend'],
    [
      'settings that a backend does not know',
      { stores: { central: { ...CENTRAL, settings: { name: 'a', nam: 1 } } } },
      'stores.central.settings.nam',
    ],
    [
      'a check of parameters without the API',
      { policy: { verifyParameters: 'spc' } },
      'policy.verifyParameters',
    ],
  ])('stay what they are where the new ones have %s', async (_, changes, place) => {
    const { process, mount } = await started()
    const { policy } = process
    const error = await process.apply(configured(changes)).catch((reason: unknown) => reason)
    expect(error).toBeInstanceOf(ConfigError)
    expect(String(error)).toContain(`c.yaml:1:`)
    expect(String(error)).toContain(place)
    expect(process.policy).toEqual(policy)
    expect(await mount()).toBe('abc')
  })
})

describe('keyferry serve', () => {
  it(
    'follows a ConfigMap volume and SIGHUP, survives a broken file, and stays ready',
    { timeout: 60_000 },
    async () => {
      const scene = await sopsNode()
      onTestFinished(() => scene.close())
      scene.put('shop/db.yaml', await scene.sealed({ password: 'correct horse' }))
      const settings = {
        kubernetes: 'off',
        backends: {
          sops: { roots: [{ path: scene.store }], identities: [{ path: scene.identity, shared: true }] },
        },
      }
      const documents = { backend: 'sops', allow: [{ namespaces: ['shop'] }] }
      const text = (changes: object): string => JSON.stringify({ ...settings, ...changes }, undefined, 1)
      const volume = configMap(text({ stores: {} }))
      const server = await scene.serve({ config: volume.file })
      const node = await scene.node()
      let volumes = 0
      const mount = async () => {
        volumes += 1
        const files = '[{path: password, store: documents, key: shop/db.yaml, property: password}]'
        const result = await node.publish({
          pod: { name: `web-${volumes}`, namespace: 'shop', serviceAccount: 'web' },
          spc: { name: 'db', provider: 'keyferry', parameters: { files } },
        })
        return result.code === 'OK' ? 'OK' : result.message
      }
      const infoOf = async () => (await server.metrics()).match(/^keyferry_policy_info\{.*$/gm)

      const [first] = (await infoOf()) ?? []
      expect(await mount()).toContain('KEYFERRY_UNKNOWN_STORE')

      volume.put(text({ stores: { documents }, log: { level: 'debug' } }))
      await server.line('configuration reloaded')
      expect(await mount()).toBe('OK')
      expect(await infoOf()).toEqual([expect.not.stringMatching(first ?? '')])
      expect(server.output()).toContain('policy changed')
      await server.line('"level":"debug"')

      volume.put(`${text({ stores: { documents } })}\nnonsense: [`)
      process.kill(server.pid, 'SIGHUP')
      const told = await server.line('configuration not reloaded')
      expect(told).toMatch(/config\.yaml:\d+:\d+: /)
      expect(await mount()).toBe('OK')
      expect(await server.metric('keyferry_config_not_in_force')).toBe(1)
      const [port] = listeningPorts(server.pid)
      expect((await fetch(`http://127.0.0.1:${port}/readyz`)).status).toBe(200)
      expect(await server.metrics()).toContain('keyferry_config_reloads_total{outcome="failed"} 1')

      volume.put(text({ stores: {} }))
      process.kill(server.pid, 'SIGHUP')
      await expect.poll(() => server.metric('keyferry_config_not_in_force')).toBe(0)
      expect(await mount()).toContain('KEYFERRY_UNKNOWN_STORE')
      expect(await infoOf()).toEqual([first])
      await server.stop()
      expect(await server.ended).toMatchObject({ code: 0 })
    },
  )
})
