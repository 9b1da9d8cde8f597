/** examples/azure, mounted by the command itself: server, socket and the driver's side, against the fake. */
import { execFile } from 'node:child_process'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import * as v from 'valibot'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { parseConfig } from '../../../src/config.ts'
import { adapter } from '../../../src/providers/azure/adapter.ts'
import { AUDIENCE, exampleAzure, type ExampleAzure } from './example-azure.ts'
import { startHarness } from './harness.ts'

const ROOT = join(import.meta.dirname, '../../..')
const EXAMPLES = join(ROOT, 'examples/azure')

interface Report {
  readonly mounts: readonly {
    readonly mounted: boolean
    readonly files: readonly { readonly path: string; readonly mode: string }[]
    readonly versions: readonly { readonly id: string; readonly version: string }[]
    readonly error?: { readonly code: string; readonly message: string }
  }[]
}

describe('examples/azure', () => {
  let started: ExampleAzure
  const path = (name: string): string => join(started.fake.directory, name)
  beforeAll(async () => {
    started = await exampleAzure()
    writeFileSync(path('config.yaml'), JSON.stringify(started.config))
    writeFileSync(path('token'), started.token)
  })
  afterAll(() => started.fake.stop())

  async function mount(
    example: string,
    ...more: readonly string[]
  ): Promise<Report['mounts'][number] | undefined> {
    const flags = [
      '--config',
      path('config.yaml'),
      '--json',
      '--pod',
      'orders',
      '--service-account',
      'orders',
    ]
    const args = [
      'src/cli.ts',
      'mount',
      '-f',
      join(EXAMPLES, example),
      ...flags,
      '--target',
      path('target'),
      ...more,
    ]
    const result = await promisify(execFile)(process.execPath, args, { cwd: ROOT }).catch(
      (error: { stdout: string }) => error,
    )
    return (JSON.parse(result.stdout) as Report).mounts[0]
  }

  it('secretproviderclass.yaml mounts a secret, a certificate, a key and a history', async () => {
    const outcome = await mount('secretproviderclass.yaml', '--token', `${AUDIENCE}=${path('token')}`)
    expect(outcome?.error).toBeUndefined()
    expect(outcome?.files.map(({ path, mode }) => [path, mode]).toSorted()).toEqual([
      ['api-token/0', '0644'],
      ['api-token/1', '0644'],
      ['api-token/2', '0644'],
      ['api-token/3', '0644'],
      ['db-password', '0400'],
      ['signing', '0644'],
      ['tls/site.pem', '0644'],
    ])
    expect(readFileSync(path('target/db-password'), 'utf8')).toBe('correct-horse')
    expect(readFileSync(path('target/api-token/0'), 'utf8')).toBe('token 4')
    expect(outcome?.versions).toContainEqual({ id: 'secret/api-token/3', version: 'v1' })
  })

  it('service-principal.yaml mounts with the node-publish Secret', async () => {
    const secrets = [
      '--secret',
      'clientid=66666666-7777-8888-9999-000000000000',
      '--secret',
      'clientsecret=a-client-secret',
    ]
    expect(await mount('service-principal.yaml', ...secrets)).toMatchObject({ mounted: true })
  })

  it('without a token the event names the audience and where to add it', async () => {
    const outcome = await mount('secretproviderclass.yaml')
    expect(outcome?.error?.code).toBe('Unauthenticated')
    expect(outcome?.error?.message).toContain(
      'List {audience: "api://AzureADTokenExchange"} under tokenRequests',
    )
  })
})

it('additions.yaml mounts with the annotation of the service account', async () => {
  const { fake } = await exampleAzure()
  const harness = await startHarness({ settings: () => ({ caFile: fake.caFile, proxy: fake.proxyUrl }) })
  try {
    harness.annotations.set('shop/orders', {
      'azure.workload.identity/client-id': '66666666-7777-8888-9999-000000000000',
    })
    const { token, expirationTimestamp } = fake.cluster.token({
      namespace: 'shop',
      serviceAccount: 'orders',
      audience: AUDIENCE,
    })
    const spc = parse(readFileSync(join(EXAMPLES, 'additions.yaml'), 'utf8')) as {
      spec: { parameters: Record<string, string> }
    }
    const { files } = await harness.mount(spc.spec.parameters, {
      namespace: 'shop',
      serviceAccount: 'orders',
      tokens: JSON.stringify({ [AUDIENCE]: { token, expirationTimestamp } }),
    })
    expect(files.map((file) => file.path)).toEqual([
      'tls/tls.crt',
      'tls/tls.key',
      'tls/ca.crt',
      'database/all.json',
      'database/user',
      'database/password',
      'feature-flags',
      'api-token/0',
      'api-token/1',
    ])
    expect(files.find((file) => file.path === 'database/password')).toMatchObject({
      text: 'correct-horse',
      mode: 0o400,
    })
  } finally {
    await harness.stop()
    await fake.stop()
  }
})

it('node.yaml is a configuration that the backend and the key service accept', () => {
  const { backends } = parseConfig('node.yaml', readFileSync(join(EXAMPLES, 'node.yaml'), 'utf8')).config
  const schemas = new Map([
    ...(adapter.backends ?? []).map((one) => [one.kind, one.settingsSchema] as const),
    ...(adapter.keyServices ?? []).map((one) => [one.settingsName, one.settingsSchema] as const),
  ])
  expect(Object.keys(backends)).toEqual(['azure-key-vault', 'azure-key-vault-keys'])
  for (const [kind, settings] of Object.entries(backends)) {
    const schema = schemas.get(kind)
    expect(schema && v.safeParse(schema, settings).success, kind).toBe(true)
  }
})

it('every class of the examples is for the dialect azure', () => {
  const documents = readdirSync(EXAMPLES)
    .flatMap((name) => readFileSync(join(EXAMPLES, name), 'utf8').split('\n---\n'))
    .map((text) => parse(text) as { kind?: string; spec?: { provider?: string } })
  const classes = documents.filter(({ kind }) => kind === 'SecretProviderClass')
  expect(classes.map(({ spec }) => spec?.provider)).toEqual(['azure', 'azure', 'azure'])
})
