/** The worked example of docs/adapters.md: what the page says is what the file says, and it works. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { startValueService, type ValueService } from './value-service.ts'

const ROOT = join(import.meta.dirname, '../..')
const EXAMPLE = join(ROOT, 'examples/adapters/http-values.ts')
const TOKEN = 'header.claims.signature'

let folder: string
let service: ValueService
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'keyferry-adapter-'))
  service = await startValueService(TOKEN)
  service.values.set('db-password', { value: 'correct horse', etag: '"v7"' })
  service.values.set('binary', { value: '\u0000\u0001', etag: '' })
})
afterEach(async () => {
  await service.close()
  rmSync(folder, { recursive: true })
})

interface Mounted {
  readonly exit: number
  readonly stderr: string
  readonly files: readonly { readonly path: string; readonly mode: string }[]
  readonly versions: readonly { readonly id: string; readonly version: string }[]
  readonly error: { readonly code: string; readonly message: string } | undefined
}

/** `keyferry mount` of a class that names `keys`, with the shipped bundle and the example as an adapter. */
async function mount(
  keys: string,
  options: { readonly settings?: object; /** `none` hands over no token. */ readonly token?: string } = {},
): Promise<Mounted> {
  writeFileSync(
    join(folder, 'config.yaml'),
    JSON.stringify({
      kubernetes: 'off',
      adapters: [EXAMPLE],
      backends: { 'http-values': options.settings ?? { url: service.url } },
    }),
  )
  writeFileSync(
    join(folder, 'spc.yaml'),
    JSON.stringify({
      apiVersion: 'secrets-store.csi.x-k8s.io/v1',
      kind: 'SecretProviderClass',
      metadata: { name: 'web', namespace: 'shop' },
      spec: { provider: 'http-values', parameters: { keys } },
    }),
  )
  writeFileSync(join(folder, 'token'), options.token ?? TOKEN)
  const token = options.token === 'none' ? [] : ['--token', 'http-values=token']
  const child = spawn(
    process.execPath,
    [
      join(ROOT, 'bin/keyferry.mjs'),
      'mount',
      '-f',
      'spc.yaml',
      '--config',
      'config.yaml',
      '--target',
      'out',
      '--json',
      ...token,
    ],
    { cwd: folder, stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const output = { stdout: '', stderr: '' }
  for (const stream of ['stdout', 'stderr'] as const)
    child[stream].setEncoding('utf8').on('data', (text: string) => (output[stream] += text))
  const [exit] = (await once(child, 'close')) as [number]
  const { mounts } = JSON.parse(output.stdout || '{"mounts":[{}]}') as { mounts: [Partial<Mounted>] }
  const [{ files = [], versions = [], error }] = mounts
  return { exit, stderr: output.stderr, files, versions, error }
}

const content = (path: string): string => readFileSync(join(folder, 'out', path), 'utf8')

describe('the page', () => {
  it('quotes the example as it is', () => {
    const page = readFileSync(join(ROOT, 'docs/adapters.md'), 'utf8')
    expect(page).toContain(`\`\`\`ts\n${readFileSync(EXAMPLE, 'utf8')}\`\`\`\n`)
  })
})

describe('the example, mounted', () => {
  it('writes a file for each key, with the version of the service, asked as the pod', async () => {
    const { exit, files, versions } = await mount('db-password, binary')
    expect(exit).toBe(0)
    expect(files).toMatchObject([
      { path: 'binary', mode: '0644' },
      { path: 'db-password', mode: '0644' },
    ])
    expect(content('db-password')).toBe('correct horse')
    expect(content('binary')).toBe('\u0000\u0001')
    expect(versions).toHaveLength(2)
    expect(versions).toContainEqual({ id: 'db-password', version: '"v7"' })
    // Without a version of the service, the host reports a keyed digest.
    expect(versions.find(({ id }) => id === 'binary')?.version).toMatch(/^[\w-]{8,}$/)
    expect(service.calls.map(({ path }) => path).toSorted()).toEqual(['/v1/binary', '/v1/db-password'])
    expect(service.calls.map(({ authorization }) => authorization)).toEqual([
      `Bearer ${TOKEN}`,
      `Bearer ${TOKEN}`,
    ])
  })

  it.each([
    [403, 'PermissionDenied', 'denied'],
    [410, 'NotFound', 'gone'],
    [418, 'DataLoss', 'malformed'],
  ])('HTTP %i is %s and tells what to check, never what the service said', async (status, code, kind) => {
    service.faults.set('db-password', status)
    const { exit, error } = await mount('db-password binary')
    expect(exit).toBe(1)
    expect(error?.code).toBe(code)
    expect(error?.message).toContain(
      `HTTP_VALUES_FAILED: object "db-password": the service answered HTTP ${status} [${kind}]. Check the key and that this service account may read it.`,
    )
    expect(error?.message).not.toContain('nobody else')
  })

  it('a key that does not exist is NotFound and names the key', async () => {
    const { error } = await mount('db-password misspelt')
    expect(error).toMatchObject({ code: 'NotFound' })
    expect(error?.message).toContain('object "misspelt": the service answered HTTP 404 [not-found]')
  })

  it('a service that is overloaded is asked again, then the mount fails with a final code', async () => {
    service.faults.set('db-password', 503)
    const { error } = await mount('db-password')
    expect(error?.code).toBe('FailedPrecondition')
    expect(error?.message).toContain('HTTP 503 [unavailable]')
    expect(service.calls.length).toBeGreaterThan(1)
  })

  it('without a token for its audience nothing is asked, and the text says what to configure', async () => {
    const { error } = await mount('db-password', { token: 'none' })
    expect(error?.code).toBe('Unauthenticated')
    expect(error?.message).toContain('TOKEN_MISSING')
    expect(error?.message).toContain('Add {audience: "http-values"} to tokenRequests')
    expect(service.calls).toEqual([])
  })

  it('a token that the service does not take is Unauthenticated', async () => {
    const { error } = await mount('db-password', { token: 'another.token.here' })
    expect(error?.code).toBe('Unauthenticated')
    expect(error?.message).not.toContain('another.token.here')
  })

  it('a key cannot leave the path of the service or the volume', async () => {
    const { error } = await mount('../../etc/passwd')
    expect(error?.code).toBe('InvalidArgument')
    expect(error?.message).toContain('INVALID_PATH')
    expect(service.calls).toEqual([])
  })

  it('a class without keys is refused with the code of the dialect', async () => {
    const { error } = await mount(' ')
    expect(error?.code).toBe('InvalidArgument')
    expect(error?.message).toContain('HTTP_VALUES_NO_KEYS: parameter keys names none [config]')
  })

  it.each([
    [{}, /config\.yaml:1:\d+: backends\.http-values\.url /],
    [{ url: 'nowhere' }, /config\.yaml:1:\d+: backends\.http-values\.url /],
    [{ url: 'http://127.0.0.1:1', colour: 'red' }, /backends\.http-values\.colour is not a known key/],
  ])('settings %j stop the start with their place in the file', async (settings, message) => {
    const { exit, stderr } = await mount('db-password', { settings })
    expect(exit).toBe(2)
    expect(stderr).toMatch(message)
  })
})
