/** SPC parameters and the objects text (vault sections 2 and 11): pure, so no server. */
import { planNow } from '../../../src/mount/planner.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PlanError, type Dialect, type FileOutput, type Plan } from '../../../src/providers/adapter.ts'
import { openbaoDialect, vaultDialect } from '../../../src/providers/vault/dialect.ts'
import { resultOf } from '../../../src/formats/steps.ts'
import { configText, parseObjects } from '../../../src/providers/vault/objects.ts'
import type { VaultRef, VaultStore } from '../../../src/providers/vault/store.ts'
import { POD } from './harness.ts'
import { object } from './set-up.ts'

const OBJECTS = object('f', 'kv/app', 'k')

function plan(dialect: Dialect, parameters: Readonly<Record<string, string>>): Plan {
  return planNow(dialect, {
    pod: POD,
    parameters: new Map(Object.entries({ roleName: 'web', objects: OBJECTS, ...parameters })),
    nodePublishKeys: new Set(),
    defaultMode: 0o644,
    provider: dialect.name,
  })
}

function problems(dialect: Dialect, parameters: Readonly<Record<string, string>>): readonly string[] {
  try {
    plan(dialect, parameters)
  } catch (error) {
    if (error instanceof PlanError) return error.problems.map(({ code }) => code)
    throw error
  }
  return []
}

const store = (dialect: Dialect, parameters: Readonly<Record<string, string>>): VaultStore =>
  plan(dialect, parameters).outputs[0]?.source.store as VaultStore
const refs = (objects: string): readonly VaultRef[] =>
  plan(vaultDialect, { objects }).outputs.map((output) => output.source.ref as VaultRef)

describe('store parameters', () => {
  it('2 every parameter of vault reaches the store', () => {
    const parameters = {
      roleName: 'role',
      vaultAddress: 'https://vault:8200',
      vaultNamespace: 'ns',
      vaultSkipTLSVerify: 'T',
      vaultCACertPath: '/ca',
      vaultCADirectory: '/cas',
      vaultTLSClientCertPath: '/cert',
      vaultTLSClientKeyPath: '/key',
      vaultTLSServerName: 'name',
      vaultAuthMountPath: 'jwt',
      audience: 'aud',
    }
    const expected: VaultStore = {
      flavour: 'vault',
      role: 'role',
      address: 'https://vault:8200',
      namespace: 'ns',
      skipVerify: true,
      caFile: '/ca',
      caDirectory: '/cas',
      clientCertFile: '/cert',
      clientKeyFile: '/key',
      serverName: 'name',
      authMount: 'jwt',
      audience: 'aud',
    }
    expect(store(vaultDialect, parameters)).toEqual(expected)
    const openbao = Object.fromEntries(
      Object.entries(parameters).map(([name, text]) => [name.replace(/^vault/, 'openbao'), text]),
    )
    expect(store(openbaoDialect, openbao)).toEqual({ ...expected, flavour: 'openbao' })
    expect(store(openbaoDialect, parameters)).toEqual({ ...expected, flavour: 'openbao' })
  })

  it('2.1 a present empty baoAddress hides a good vaultAddress', () => {
    expect(store(openbaoDialect, { baoAddress: '', vaultAddress: 'https://v' }).address).toBeUndefined()
  })

  it('2 openbao takes its role from the prefixed names first; vault knows roleName only', () => {
    const parameters = { baoRoleName: 'bao', vaultRoleName: 'vault', roleName: 'plain' }
    expect(store(openbaoDialect, parameters).role).toBe('bao')
    expect(store(openbaoDialect, { vaultRoleName: 'vault' }).role).toBe('vault')
    expect(store(vaultDialect, parameters).role).toBe('plain')
    expect(problems(vaultDialect, { vaultRoleName: 'vault', roleName: '' })).toEqual(['VAULT_NO_ROLE'])
  })

  it('2 vaultKubernetesMountPath still names the login mount, and empty means the default', () => {
    expect(store(vaultDialect, { vaultKubernetesMountPath: 'k8s' }).authMount).toBe('k8s')
    expect(store(vaultDialect, { vaultAuthMountPath: '' }).authMount).toBeUndefined()
    expect(problems(openbaoDialect, { baoAuthMountPath: 'a', vaultKubernetesMountPath: 'b' })).toEqual([
      'VAULT_AUTH_MOUNT_TWICE',
    ])
  })

  it.each(['1', 't', 'T', 'TRUE', 'true', 'True'])('2 vaultSkipTLSVerify %s is true', (text) => {
    expect(store(vaultDialect, { vaultSkipTLSVerify: text }).skipVerify).toBe(true)
  })
  it.each(['0', 'f', 'F', 'FALSE', 'false', 'False'])('2 vaultSkipTLSVerify %s is false', (text) => {
    expect(store(vaultDialect, { vaultSkipTLSVerify: text }).skipVerify).toBeUndefined()
  })
  it.each(['', 'yes', 'on', 'tRUE', ' true'])('2 vaultSkipTLSVerify %j is an error', (text) => {
    expect(problems(vaultDialect, { vaultSkipTLSVerify: text })).toEqual(['VAULT_NOT_BOOLEAN'])
  })

  it('2 obsolete and unknown parameters are ignored', () => {
    const parameters = { kubernetesServiceAccountPath: '/x', vaultCAPem: 'x', whatever: '1' }
    expect(store(vaultDialect, parameters)).toEqual({ flavour: 'vault', role: 'web' })
  })

  it('every fault is told at once', () => {
    const faults = problems(vaultDialect, {
      roleName: '',
      vaultSkipTLSVerify: 'yes',
      vaultTLSClientKeyPath: '/key',
      objects: `${OBJECTS}${OBJECTS}${object('', 'x?a=%')}`,
    })
    expect(faults.toSorted()).toEqual([
      'VAULT_CLIENT_CERT_PAIR',
      'VAULT_DUPLICATE_NAMES',
      'VAULT_NOT_BOOLEAN',
      'VAULT_NO_OBJECT_NAME',
      'VAULT_NO_ROLE',
      'VAULT_REQUEST',
    ])
  })
})

describe('objects', () => {
  const parsed = (text: string) => resultOf(parseObjects(text)).objects.map(({ object }) => object)

  it.each([
    ['0600', 384],
    ['0o600', 384],
    ['0x180', 384],
    ['0b110000000', 384],
    ['384', 384],
    ['0888', 888],
    ['1_000', 1000],
    ['420.5', 420],
    ['0', 0],
  ])('2.4 filePermission %s is %i', (text, mode) => {
    expect(parsed(object('f', 'p', 'k', [`filePermission: ${text}`]))[0]?.filePermission).toBe(mode)
  })
  it.each(['"0600"', '-1', '4294967296', 'true', 'abc', '[1]'])(
    '2.4 filePermission %s is an error',
    (text) => {
      expect(
        resultOf(parseObjects(object('f', 'p', 'k', [`filePermission: ${text}`]))).problems,
      ).toHaveLength(1)
    },
  )
  it('driver 8.4 a mode of more than nine bits is an error, zero is the mount’s own', () => {
    expect(problems(vaultDialect, { objects: object('f', 'p', 'k', ['filePermission: 01644']) })).toEqual([
      'VAULT_FILE_MODE',
    ])
    expect(
      plan(vaultDialect, { objects: object('f', 'p', 'k', ['filePermission: 0']) }).outputs[0]?.mode,
    ).toBe(0o644)
  })

  it.each([
    ['012', '012'],
    ['1.50', '1.50'],
    ['true', 'true'],
    ['2024-01-01', '2024-01-01'],
    ['~', ''],
    ['null', ''],
    ['"quoted"', 'quoted'],
  ])('2.4 the text %s is %j in a string field', (text, expected) => {
    expect(parsed(`- {objectName: f, secretKey: ${text}}`)[0]?.secretKey).toBe(expected)
  })

  it('2.4 arguments are typed as Go types them', () => {
    const args =
      'a: yes\nb: off\nc: True\nd: 0755\ne: 08\nf: 1.0\ng: 1e3\nh: 18446744073709551615\ni: 100000000000000000000\n' +
      'j: 1e21\nk: 1e-7\nl: 1e400\nm: 2001-12-14\nn: !!binary aGk=\no: 190:20:30\np: n\nq: {y: [1, null]}'
    const [item] = parsed(`- objectName: f\n  secretArgs:\n${args.replace(/^/gm, '    ')}\n`)
    const config = configText(item ?? ({} as never))
    expect(JSON.parse(config)).toMatchObject({
      SecretArgs: {
        a: 'yes',
        b: 'off',
        c: true,
        d: 493,
        e: 8,
        f: 1,
        g: 1000,
        k: 1e-7,
        l: '1e400',
        m: '2001-12-14T00:00:00Z',
        n: 'hi',
        o: '190:20:30',
        p: 'n',
        q: { y: [1, null] },
      },
    })
    expect(config).toContain(
      '"f":1,"g":1000,"h":18446744073709551615,"i":100000000000000000000,"j":1e+21,"k":1e-7',
    )
  })

  it('2.3 {} sends {}, absent and null send nothing', () => {
    const bodies = (text: string) => refs(`- {objectName: f, secretPath: p${text}}`).map(({ body }) => body)
    expect([bodies(', secretArgs: {}'), bodies(''), bodies(', secretArgs: null')]).toEqual([
      ['{}'],
      [undefined],
      [undefined],
    ])
  })

  it('2.4 field names are exact, unknown ones ignored, null items dropped, later documents not read', () => {
    expect(parsed('- {objectname: x, objectName: f, more: 1}\n- null\n---\n- objectName: g\n')).toMatchObject(
      [{ objectName: 'f', secretPath: '' }],
    )
    expect(parsed('- &a {objectName: f, secretPath: p}\n- {<<: *a, objectName: g}\n')).toMatchObject([
      { objectName: 'f' },
      { objectName: 'g', secretPath: 'p' },
    ])
  })

  it.each([
    '- {objectName: a, objectName: b}',
    '\t- objectName: f',
    '- objectName: [a]',
    '- {objectName: f, secretArgs: [1]}',
    'text',
    '- {objectName: f, secretArgs: {a: .inf}}',
  ])('2.4 %j is an error with its place', (text) => {
    const [problem] = resultOf(parseObjects(text)).problems
    expect(problem).toMatchObject({ code: 'VAULT_OBJECTS', line: expect.any(Number) as number })
  })

  it.each(['', '# only a comment', 'null', '[]', '- null'])('2 objects of %j are none', (objects) => {
    expect(problems(vaultDialect, { objects })).toEqual(['VAULT_NO_OBJECTS'])
  })

  it('2.3 a name used three times is listed twice', () => {
    try {
      plan(vaultDialect, { objects: OBJECTS.repeat(3) + object('g', 'x') + object('g', 'x') })
      expect.unreachable('it planned')
    } catch (error) {
      expect((error as PlanError).problems[0]?.message).toMatch(/were duplicated: f, f, g$/)
    }
  })

  it('T16 property: no text makes the dialect throw anything but a PlanError', () => {
    fc.assert(
      fc.property(
        fc.string({
          unit: fc.constantFrom(...'-:{}[]&*!|>"\'\n \tobjectNamesecretPath?%/.0~#'.split('')),
          maxLength: 80,
        }),
        (objects) => {
          expect(Array.isArray(problems(vaultDialect, { objects }))).toBe(true)
        },
      ),
    )
  })
})

describe('sharing of answers', () => {
  it('3.1 an object without arguments borrows the first ones of its path and method only', () => {
    const put = (name: string, path: string, args?: string): string =>
      object(name, path, 'k', ['method: PUT', ...(args === undefined ? [] : [`secretArgs: ${args}`])])
    const [a, b, c, d] = refs(
      put('a', 'pki/issue/x', '{n: 1}') +
        put('b', '/v1/pki/issue/x') +
        put('c', 'pki/issue/y') +
        object('d', 'pki/issue/x'),
    )
    expect(b).toMatchObject({ body: '{"n":1}', path: a?.path })
    expect(c?.body).toBeUndefined()
    expect(d).toMatchObject({ method: 'GET' })
    expect(d?.body).toBeUndefined()
  })

  it('T7 only what issues something names the pod', () => {
    const [creds, kv] = refs(object('a', 'database/creds/x', 'k') + object('b', 'secret/data/x', 'k'))
    expect([creds?.pod, kv?.pod]).toEqual([POD.uid, undefined])
  })

  it('3.1 warns once about arguments that differ, naming the objects', () => {
    const item = (name: string, n: number): string =>
      object(name, 'pki/issue/x', 'k', ['method: PUT', `secretArgs: {n: ${n}}`])
    const { warnings, outputs } = plan(vaultDialect, { objects: item('a', 1) + item('b', 2) + item('c', 2) })
    expect(warnings).toHaveLength(1)
    expect(warnings?.[0]).toMatch(/"a" and "b"/)
    expect(
      (outputs as readonly FileOutput[]).map(({ source }) => (source.ref as VaultRef).legacy?.body),
    ).toEqual([undefined, '{"n":1}', '{"n":1}'])
  })
})
