/** Which refusals of SOPS documents may take a running pod's files away (threat model T25), and which may not. */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { BackendError, type Host } from '../../../src/providers/adapter.ts'
import { requireProof } from '../../../src/providers/sops/caller-proof.ts'
import { sopsError } from '../../../src/providers/sops/errors.ts'
import { DEFAULT_LIMITS } from '../../../src/providers/sops/limits.ts'
import { readSopsFile } from '../../../src/providers/sops/source.ts'
import { silentLogger } from '../../../src/telemetry/log.ts'

let directory = ''
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'kf-revocation-'))
})
afterEach(() => rmSync(directory, { recursive: true }))

async function failureOf(work: Promise<unknown>): Promise<BackendError> {
  const error = await work.then(
    () => expect.unreachable('it succeeded'),
    (thrown: unknown) => thrown,
  )
  if (error instanceof BackendError) return error
  throw error
}

const read = (...roots: string[]): Promise<BackendError> =>
  failureOf(
    readSopsFile(
      roots.map((name) => ({ path: join(directory, name), namespaced: true })),
      'shop/db.yaml',
      'shop',
      DEFAULT_LIMITS,
    ),
  )

it('T25 a document that is not in a root with others was deleted; a root that is absent or empty may not be mounted', async () => {
  mkdirSync(join(directory, 'full/other'), { recursive: true })
  writeFileSync(join(directory, 'full/other/db.yaml'), '')
  mkdirSync(join(directory, 'empty'))
  for (const [roots, indirect] of [
    [['full'], false],
    [['absent'], true],
    [['empty'], true],
    [['full', 'absent'], true],
    [['empty', 'full'], true],
  ] as const)
    expect(await read(...roots)).toMatchObject({ code: 'OBJECT_NOT_FOUND', indirect })
})

it('T25 a path below another namespace is a denial; a root that others may write is the node’s fault', async () => {
  mkdirSync(join(directory, 'full/shop'), { recursive: true })
  const root = { path: join(directory, 'full'), namespaced: true }
  const foreign = await failureOf(readSopsFile([root], 'shop/db.yaml', 'bank', DEFAULT_LIMITS))
  expect(foreign).toMatchObject({ code: 'NOT_BOUND', indirect: false })
  const everybodys = join(directory, 'everybodys')
  mkdirSync(join(everybodys, 'root'), { recursive: true })
  chmodSync(everybodys, 0o777)
  const open = { path: join(everybodys, 'root'), namespaced: true }
  expect(await failureOf(readSopsFile([open], 'shop/db.yaml', 'shop', DEFAULT_LIMITS))).toMatchObject({
    code: 'IDENTITY_NOT_ALLOWED',
    indirect: true,
  })
})

it('T25 a caller who cannot prove who it is, for now, is told the same but loses nothing', async () => {
  const jwksFile = join(directory, 'jwks.json')
  writeFileSync(jwksFile, '{"keys":[]}')
  const host = {
    pod: { name: 'p', namespace: 'shop', uid: 'u', serviceAccount: 'web' },
    log: silentLogger,
    now: () => new Date(),
    token: () =>
      Promise.reject(
        new BackendError({ kind: 'unauthenticated', code: 'TOKEN_EXPIRED', message: 'expired' }),
      ),
  } as unknown as Host
  const proof = { level: 'token', issuer: 'https://i', audience: 'a', jwksFile } as const
  expect(await failureOf(requireProof(proof, host))).toMatchObject({ code: 'NOT_BOUND', indirect: true })
})

it('T25 a document that no key of this node opens keeps its files: a lost identity looks the same', () => {
  expect(sopsError('NO_KEY_OPENED', 'm').indirect).toBe(true)
  expect(sopsError('NOT_BOUND', 'm').indirect).toBe(false)
  expect(sopsError('IDENTITY_NOT_ALLOWED', 'm').indirect).toBe(false)
  expect(sopsError('OBJECT_NOT_FOUND', 'm').indirect).toBe(false)
})
