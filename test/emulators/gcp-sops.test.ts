/**
 * Documents that stock sops encrypts to a Cloud KMS key of the fake, opened by a mount through the whole
 * provider process with the pod's own identity, and back by the stock tool (test-peers.md section 5).
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { peerProgram } from '../peers/start.ts'
import { describeWithPeers } from '../peers/suite.ts'
import { startHarness, WEB } from '../providers/gcp/harness.ts'
import type { Harness } from '../providers/gcp/harness.ts'

const execute = promisify(execFile)
const KEY = 'projects/acme-prod/locations/global/keyRings/ring/cryptoKeys/docs'
const WRITER = 'user:writer@example.com'
const PLAIN = 'csi_bind: shop/web\ndb:\n    user: app\n    password: correct-horse\n'

describeWithPeers('stock sops with gcp_kms keys of the fake', { programs: ['sops'] }, () => {
  let node: Harness
  const directory = mkdtempSync(join(tmpdir(), 'kf-gcp-sops-'))
  afterAll(() => rmSync(directory, { recursive: true }))

  beforeAll(async () => {
    node = await startHarness({
      backends: (settings) => ({ 'gcp-kms': settings, sops: {} }),
    })
    node.google.kms.addKey(KEY, WEB, WRITER)
  })
  afterAll(() => node.stop())

  /** Runs the stock tool with a token of `member`. Not in a blocking way: the fake answers from here. */
  async function run(member: string, ...args: readonly string[]): Promise<string> {
    const { stdout } = await execute(peerProgram('sops'), ['--disable-version-check', ...args], {
      cwd: directory,
      env: {
        PATH: process.env['PATH'] ?? '',
        HOME: directory,
        SOPS_GCP_KMS_ENDPOINT: node.google.listeners.plain,
        SOPS_GCP_KMS_CLIENT_TYPE: 'rest',
        GOOGLE_OAUTH_ACCESS_TOKEN: node.google.identity.issue(member),
      },
    })
    return stdout
  }

  const inline = (document: string, keyIdentity = 'pod') => ({
    sopsFormat: 'yaml',
    sopsDocument: document,
    keyIdentity,
    objects: '- {objectName: password, path: /db/password}\n',
  })

  it('sops A10 what stock sops encrypts to a Cloud KMS key, a pod with the right to decrypt mounts', async () => {
    const document = await encrypted()
    const { files } = await node.mount(undefined, { provider: 'sops' }, inline(document))
    expect(files.map(({ path, text }) => [path, text])).toEqual([['password', 'correct-horse']])
    const kms = node.google.callsOf('kms').map(({ path, status }) => [path.split('?')[0], status])
    expect(kms.at(-1)).toEqual([`/v1/${KEY}:decrypt`, 200])
    expect(node.google.callsOf('exchange')).toHaveLength(1)
  })

  it('sops A11.3 a pod without that right opens nothing, whatever the document says', async () => {
    const document = await encrypted()
    node.google.cluster.accounts.set('shop/other', {})
    const pod = { provider: 'sops', serviceAccount: 'other' }
    const { message } = await node.failure(
      undefined,
      pod,
      inline(document.replaceAll('shop/web', 'shop/other')),
    )
    expect(message).toContain('NO_KEY_OPENED')
    expect(message).toContain('GCP_PERMISSION_DENIED')
  })

  it('sops A10 without keyIdentity no key service is asked', async () => {
    const document = await encrypted()
    const before = node.google.calls.length
    const { message } = await node.failure(undefined, { provider: 'sops' }, inline(document, 'offline'))
    expect(message).toContain('NO_KEY_OPENED')
    expect(node.google.calls).toHaveLength(before)
  })

  it('the stock tool opens its document through the fake, and is refused without the right', async () => {
    const document = await encrypted()
    expect(document).toContain('gcp_kms')
    const file = join(directory, 'again.yaml')
    writeFileSync(file, document)
    expect(await run(WRITER, 'decrypt', file)).toBe(PLAIN)
    await expect(run('user:stranger@example.com', 'decrypt', file)).rejects.toThrow()
  })

  async function encrypted(): Promise<string> {
    const file = join(directory, 'plain.yaml')
    writeFileSync(file, PLAIN)
    await run(WRITER, 'encrypt', '--in-place', '--gcp-kms', KEY, file)
    const text = readFileSync(file, 'utf8')
    expect(text).not.toContain('correct-horse')
    return text
  }
})
