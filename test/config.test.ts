import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ConfigError, defaultConfig, loadConfig, parseConfig } from '../src/config.ts'

describe('the configuration file', () => {
  it('an empty file means the defaults', () => {
    expect(parseConfig('c.yaml', '').config).toEqual(defaultConfig())
    expect(defaultConfig()).toMatchObject({
      cache: { freshFor: 30_000, staleIfError: 0 },
      limits: { running: 16, responseBytes: 4_194_304, budget: 90_000 },
      admin: { address: 'off' },
    })
  })

  it('reads policy rules: the identity of a rule is the pod’s unless it says otherwise', () => {
    const { policy } = parseConfig('c.yaml', "policy: {allow: [{addresses: ['*.example.org']}]}").config
    expect(policy).toEqual({
      profile: 'compat',
      allow: [{ identity: 'pod', addresses: ['*.example.org'] }],
      inlineStores: 'deny',
      onRevoked: 'keep',
      verifyParameters: 'off',
    })
  })

  it('reads durations and sizes with their units', () => {
    const { config } = parseConfig(
      'c.yaml',
      'cache: {freshFor: 5m, staleIfError: 250ms, maxBytes: 512KiB}\nlimits: {fileBytes: 1000}',
    )
    expect(config.cache).toMatchObject({ freshFor: 300_000, staleIfError: 250, maxBytes: 524_288 })
    expect(config.limits.fileBytes).toBe(1000)
  })

  it.each([
    ['sockets:\n  dirs: [a]\n', 'c.yaml:2:9: sockets.dirs is not a known key'],
    [
      'cache:\n  freshFor: 3x\n',
      'c.yaml:2:13: cache.freshFor is not a duration; write it like 30s, 250ms, 5m or 0',
    ],
    [
      'cache:\n  freshFor: 30\n',
      'c.yaml:2:13: cache.freshFor is not a duration; write it like 30s, 250ms, 5m or 0',
    ],
    [
      'log:\n  level: loud',
      'c.yaml:2:10: log.level invalid type: Expected ("debug" | "info" | "warn" | "error") but received "loud"',
    ],
    ['limits:\n  running: 0', 'c.yaml:2:12: limits.running invalid value: Expected >=1 but received 0'],
    ['admin: {address: nope}', 'c.yaml:1:18: admin.address is not HOST:PORT or off'],
    ['kubernetes: {foo: 1}', 'c.yaml:1:19: kubernetes.foo is not a known key'],
    [
      'policy:\n  profile: strict',
      'c.yaml:2:12: policy.profile invalid type: Expected ("compat" | "hardened") but received "strict"',
    ],
    [
      'policy:\n  allow:\n    - {namespace: shop}',
      'c.yaml:3:19: policy.allow.0.namespace is not a known key',
    ],
    [
      'policy:\n  allow:\n    - identity: node\n    - namespaces: [shop]',
      'c.yaml:4:7: policy.allow.1 is not a rule that allows anything; give it identity: node, addresses, or both',
    ],
    [
      'policy: {allow: [{identity: node, namespaces: []}]}',
      'c.yaml:1:47: policy.allow.0.namespaces is not a list with patterns; leave the key out to mean any',
    ],
    [
      'policy: {allow: [{addresses: [a.test, "https://b.test"]}]}',
      'c.yaml:1:39: policy.allow.0.addresses.1 is not a host pattern such as *.example.org or vault:8200',
    ],
    [
      'policy: {verifyParameters: true}',
      'c.yaml:1:28: policy.verifyParameters invalid type: Expected ("off" | "spc") but received true',
    ],
    ['- a', 'c.yaml:1:1: the configuration must be a mapping, not a list'],
    ['sockets: {}\nsockets: {}\n', 'c.yaml:2:1: Map keys must be unique'],
  ])('T28 %j stops with file, line and reason', (text, message) => {
    expect(() => parseConfig('c.yaml', text)).toThrow(new ConfigError(message))
  })

  it('T28 a file that is no YAML stops with file and line', () => {
    expect(() => parseConfig('c.yaml', 'a: [')).toThrow(/^c\.yaml:1:\d+: /)
  })

  it('a file that cannot be read says so', async () => {
    await expect(loadConfig('/nonexistent/keyferry.yaml')).rejects.toThrow(
      '/nonexistent/keyferry.yaml: cannot be read (ENOENT)',
    )
    const folder = await mkdtemp(join(tmpdir(), 'keyferry-config-'))
    await writeFile(join(folder, 'c.yaml'), 'log: {level: debug}')
    expect((await loadConfig(join(folder, 'c.yaml'))).config.log.level).toBe('debug')
    await rm(folder, { recursive: true })
  })

  it('any text gives a configuration or a ConfigError with file and line', () => {
    const token = fc.constantFrom(
      'sockets',
      'cache',
      'log',
      ':',
      ' ',
      '\n',
      '  ',
      '{',
      '}',
      '[',
      ']',
      '&a',
      '*a',
      '1',
      'x',
      '"',
      '- ',
      '?',
      '|',
    )
    fc.assert(
      fc.property(fc.array(token, { maxLength: 30 }), (tokens) => {
        try {
          parseConfig('c.yaml', tokens.join(''))
        } catch (error) {
          expect(error).toBeInstanceOf(ConfigError)
          expect(String(error)).toMatch(/c\.yaml:\d+:\d+: /)
        }
      }),
      { numRuns: 2000 },
    )
  })
})
