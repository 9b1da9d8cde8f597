/**
 * Owns `keyferry serve` as the subject of the common suites: SecretProviderClasses whose inline
 * document was encrypted by stock sops to an age identity that the node holds.
 */
import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { startProcess } from '../peers/process.ts'
import { peerProgram } from '../peers/start.ts'
import type { Stage } from './stage.ts'
import type { Contents, Subject } from './subject.ts'

const root = join(import.meta.dirname, '../..')
const provider = 'sops'

/** Programs of .peers that the subject needs. */
export const KEYFERRY_PEERS = ['sops', 'age-keygen']

export async function keyferrySubject(stage: Stage): Promise<Subject> {
  const identity = join(stage.scratch, 'node.agekey')
  execFileSync(peerProgram('age-keygen'), ['-o', identity], { stdio: 'pipe' })
  chmodSync(identity, 0o400)
  const recipient = execFileSync(peerProgram('age-keygen'), ['-y', identity], { encoding: 'utf8' }).trim()
  const config = join(stage.scratch, 'config.yaml')
  writeFileSync(
    config,
    JSON.stringify({
      kubernetes: 'off',
      backends: { sops: { identities: [{ path: identity, subjects: ['shop/web'] }] } },
    }),
  )
  const publish = async (name: string, contents: Contents, change: (document: string) => string) => {
    const objects = Object.keys(contents).map((objectName) => ({
      objectName,
      path: `/${objectName.replaceAll('~', '~0').replaceAll('/', '~1')}`,
    }))
    await stage.secretProviderClass(name, provider, {
      sopsFormat: 'json',
      sopsDocument: change(await encrypted(contents, recipient)),
      objects: JSON.stringify(objects),
    })
  }
  return {
    provider,
    start: (directories = [stage.socketDirs.main]) =>
      startProcess({
        name: 'keyferry',
        command: process.execPath,
        args: [
          join(root, 'bin/keyferry.mjs'),
          'serve',
          '--config',
          config,
          '--dialects',
          provider,
          ...directories.flatMap((directory) => ['--socket-dir', directory]),
        ],
        scratch: stage.scratch,
        ready: ({ log }) => (log().includes('"msg":"ready"') ? true : undefined),
      }),
    yields: (name, contents) => publish(name, contents, (document) => document),
    breaks: (name) => publish(name, { user: 'app' }, withForgedValue),
    failure: /TOKEN_INVALID/,
  }
}

/** A document made by stock sops, in memory only. */
async function encrypted(contents: Contents, recipient: string): Promise<string> {
  const sops = spawn(
    peerProgram('sops'),
    [
      '--disable-version-check',
      'encrypt',
      '--age',
      recipient,
      '--filename-override',
      'document.json',
      '--input-type',
      'json',
      '--output-type',
      'json',
    ],
    { stdio: ['pipe', 'pipe', 'inherit'] },
  )
  sops.stdin.end(JSON.stringify(contents))
  const chunks: Buffer[] = []
  for await (const chunk of sops.stdout) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}

/** One bit of the ciphertext of `user` is another: what a damaged or forged document looks like. */
function withForgedValue(document: string): string {
  const parsed = JSON.parse(document) as { user: string }
  const forged = parsed.user.replace(/data:(.)/, (_, first: string) => `data:${first === 'A' ? 'B' : 'A'}`)
  return JSON.stringify({ ...parsed, user: forged })
}
