/** examples/gcp, mounted by the command itself: server, socket and the driver's side, against the fake. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { parseConfig } from '../../../src/config.ts'
import { adapter } from '../../../src/providers/gcp/adapter.ts'
import * as v from 'valibot'
import { exampleGoogle } from './example-google.ts'

const ROOT = join(import.meta.dirname, '../../..')
const directory = mkdtempSync(join(tmpdir(), 'kf-gcp-ex-'))
let started: Awaited<ReturnType<typeof exampleGoogle>>

beforeAll(async () => {
  started = await exampleGoogle()
  writeFileSync(join(directory, 'config.yaml'), JSON.stringify(started.config))
  writeFileSync(join(directory, 'token'), started.token)
})
afterAll(async () => {
  await started.google.stop()
  rmSync(directory, { recursive: true })
})

interface Report {
  readonly mounts: readonly {
    readonly mounted: boolean
    readonly files: readonly { readonly path: string; readonly mode: string }[]
    readonly versions: readonly { readonly id: string; readonly version: string }[]
    readonly error?: { readonly code: string; readonly message: string }
  }[]
}

/** `keyferry mount` of an example into `target`. */
async function mount(example: string, target: string, serviceAccount = 'orders'): Promise<Report> {
  const flags = ['--config', join(directory, 'config.yaml'), '--json', '--pod', 'orders', '--target', target]
  const token = `${started.audience}=${join(directory, 'token')}`
  const spc = join(ROOT, 'examples/gcp', example)
  const args = [
    'src/cli.ts',
    'mount',
    '-f',
    spc,
    ...flags,
    '--service-account',
    serviceAccount,
    '--token',
    token,
  ]
  const result = await promisify(execFile)(process.execPath, args, { cwd: ROOT }).catch(
    (error: { stdout: string }) => error,
  )
  return JSON.parse(result.stdout) as Report
}

describe('examples/gcp', () => {
  it('secretproviderclass.yaml mounts a secret, a field of it and a parameter', async () => {
    const target = join(directory, 'orders')
    const [outcome] = (await mount('secretproviderclass.yaml', target)).mounts
    expect(outcome).toMatchObject({ mounted: true })
    expect(outcome?.files.map(({ path, mode }) => [path, mode]).toSorted()).toEqual([
      ['db/credentials.json', '0644'],
      ['db/password', '0400'],
      ['orders.yaml', '0644'],
    ])
    expect(readFileSync(join(target, 'db/password'), 'utf8')).toBe('correct-horse')
    expect(readFileSync(join(target, 'orders.yaml'), 'utf8')).toBe('password: correct-horse\n')
    expect(statSync(join(target, 'db/password')).mode & 0o777).toBe(0o400)
    expect(outcome?.versions).toContainEqual({
      id: 'projects/acme-prod/secrets/orders-db/versions/latest',
      version: 'projects/8142/secrets/orders-db/versions/1',
    })
  })

  it('fields.yaml mounts fields, a nested one, decoded bytes, and leaves out what does not exist', async () => {
    const target = join(directory, 'fields')
    const [outcome] = (await mount('fields.yaml', target)).mounts
    expect(outcome).toMatchObject({ mounted: true })
    expect(outcome?.files.map(({ path }) => path).toSorted()).toEqual([
      'db/password',
      'db/port',
      'db/user',
      'keystore.p12',
      'pool-size',
    ])
    expect(readFileSync(join(target, 'pool-size'), 'utf8')).toBe('8')
    expect([...readFileSync(join(target, 'keystore.p12'))]).toEqual([0, 1, 2, 255])
  })

  it('a token of another pod does not mount, and the event says why', async () => {
    started.google.identity.pools.delete(started.audience)
    const [outcome] = (await mount('secretproviderclass.yaml', join(directory, 'none'))).mounts
    started.google.identity.pools.add(started.audience)
    expect(outcome?.mounted).toBe(false)
    expect(outcome?.error?.code).toBe('PermissionDenied')
    expect(outcome?.error?.message).toContain('invalid_target')
  })

  it('gcp section 10.3 the shipped bundle finds Google’s library for an external account', async () => {
    const { google, config } = started
    const federation =
      '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/pool/providers/prov'
    const pod = { namespace: 'kube-system', serviceAccount: 'keyferry', podName: 'k', podUid: 'k' }
    google.identity.pools.add(federation)
    google.stores.addSecret(
      'projects/acme-prod/secrets/nodes',
      'of the node',
      `principal:${federation}/subject/system:serviceaccount:kube-system:keyferry`,
    )
    const put = (name: string, content: string): string => {
      writeFileSync(join(directory, name), content)
      return join(directory, name)
    }
    const credentialsFile = put(
      'external.json',
      JSON.stringify({
        type: 'external_account',
        audience: federation,
        subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
        token_url: `${google.listeners.plain}/v1/token`,
        credential_source: { file: put('subject', google.cluster.token(pod, [federation])) },
      }),
    )
    const settings = { ...config.backends['gcp-secret-manager'], credentialsFile }
    const file = put(
      'external.yaml',
      JSON.stringify({ ...config, backends: { 'gcp-secret-manager': settings } }),
    )
    const secrets = '- { resourceName: projects/acme-prod/secrets/nodes/versions/1, path: f }'
    const spc = put(
      'spc.yaml',
      JSON.stringify({
        apiVersion: 'secrets-store.csi.x-k8s.io/v1',
        kind: 'SecretProviderClass',
        metadata: { name: 'nodes', namespace: 'shop' },
        spec: { provider: 'gcp', parameters: { auth: 'provider-adc', secrets } },
      }),
    )
    const target = join(directory, 'bundle')
    const args = ['bin/keyferry.mjs', 'mount', '-f', spc, '--config', file, '--target', target]
    await promisify(execFile)(process.execPath, args, { cwd: ROOT })
    expect(readFileSync(join(target, 'f'), 'utf8')).toBe('of the node')
  })

  it('node.yaml is a configuration that the backends accept', () => {
    const text = readFileSync(join(ROOT, 'examples/gcp/node.yaml'), 'utf8')
    const { backends } = parseConfig('node.yaml', text).config
    const schemas = new Map([
      ...(adapter.backends ?? []).map((one) => [one.kind, one.settingsSchema] as const),
      ...(adapter.keyServices ?? []).map((one) => [one.settingsName, one.settingsSchema] as const),
    ])
    expect(Object.keys(backends)).toHaveLength(3)
    for (const [kind, settings] of Object.entries(backends)) {
      const schema = schemas.get(kind)
      expect(schema && v.safeParse(schema, settings).issues, kind).toBeUndefined()
      expect(schema).toBeDefined()
    }
  })

  it('every class is for the dialect gcp', () => {
    const folder = join(ROOT, 'examples/gcp')
    const kinds = readdirSync(folder)
      .flatMap((name) => readFileSync(join(folder, name), 'utf8').split('\n---\n'))
      .map((text) => parse(text) as { kind?: string; spec?: { provider?: string } })
      .filter(({ kind }) => kind === 'SecretProviderClass')
    expect(kinds.map(({ spec }) => spec?.provider)).toEqual(['gcp', 'gcp'])
  })
})
