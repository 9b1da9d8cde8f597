import { describe, expect, test } from 'vitest'
import { parseIdentities } from '../../../src/providers/sops/keys/parse-identity.ts'
import { openDocument } from '../../../src/providers/sops/open.ts'
import { parsePath, valueAt } from '../../../src/providers/sops/pointer.ts'
import { rawBytes } from '../../../src/providers/sops/render.ts'

/** The document and identity of sops A19; published, test-only. */
const IDENTITY = 'AGE-SECRET-KEY-15GDTSD40P5628V3W4DL2SWJL2HGNHHCLQ23GRDZESQD2HNNWTY8SSE2NTL'
const DOCUMENT = String.raw`db:
    user: ENC[AES256_GCM,data:RGI4,iv:tTRNrK+nJkB3WsYvXVdw3RRLdD1wSQh8n0aVgSjgBCI=,tag:5DKA4YrDQQEr4La4aeRnaw==,type:str]
    password: ENC[AES256_GCM,data:cJwgpgt9Ti9HPHAhGg==,iv:TfjctkigfAMoTMst1m8WaNWetYC7NBgHuUZQI/BftHs=,tag:Yc/I72zAzU057EqP3o91ow==,type:str]
ports:
    - ENC[AES256_GCM,data:MVQFFA==,iv:a8YZG/ZpYz6kABnygbqouoH32qYMxKDT/oiQJerdcTk=,tag:FWWkN7pBx2VQgBqKTrGz8w==,type:int]
    - ENC[AES256_GCM,data:QjkEUA==,iv:b55loTRHYtlCxrXSQD4vgsgW6YIjNqBVrU0lkNLzM3E=,tag:jsNRR+GL/vNfV5qhcwBcAg==,type:int]
note_unencrypted: not secret
sops:
    age:
        - recipient: age16v07jna668e03nx4lfsklwvt23z9yxhyxrfy5p4497u5wkgxt56qmke6ls
          enc: "-----BEGIN AGE ENCRYPTED FILE-----\nYWdlLWVuY3J5cHRpb24ub3JnL3YxCi0+IFgyNTUxOSA4TkJUYzgzTnlzWEtubkR6\nRnppOEZGVXhhTEsvWGpUU3ZvTGwwbzd3SUh3CjE5MTAvd1Vic0pYQWNoaTM1YUxS\nTWVtUDhoMnJCU1ltZyttcGNTS1NPeFEKLS0tIGNOQVVSeE1BRm9abFBuV01MV0Q4\nTWFneXlaZE5odE5jSVdnUTgvQ0ppRTQKQ35FmovrkihlfTDxB+CWr8We3XX4O3AE\nS3l3zmJRYoxlsGA/sap4JWc7ymQ/tuUi+EfXVdyZ7kWgUM+ek+94UA==\n-----END AGE ENCRYPTED FILE-----\n"
    lastmodified: "2024-05-01T10:00:00Z"
    mac: ENC[AES256_GCM,data:CVOtRrU+tA+A7sR9fvuzVi3s4q2mI0ZusxWf7rriTrFFtxPJPU9cpXLqnbxQXESwZG1ozkqqzk3+8tKpxsCDAGkE8zE53tHeEO6NfYeTy1W4SvLroZpCSzWl1OacBtJ/i7wNGaWmVFwf12JAn0jH++w9KPVyZpcACl5AS3M27zY=,iv:9RSYM78Va2PlCdOcJbO66aIDjTlUJU2B3KJLpoTtG1g=,tag:vXZBdGO0WEZwEGJfGaYqmQ==,type:str]
    unencrypted_suffix: "_unencrypted"
    version: "3.13.2"
`

async function outcome(document: string): Promise<string> {
  const keys = await parseIdentities(Buffer.from(IDENTITY))
  const held = keys.map((key) => ({ ...key, subjects: [], shared: false }))
  return openDocument('yaml', Buffer.from(document), { identities: held }).then(
    () => 'opens',
    (error: unknown) => (error as { code: string }).code,
  )
}

/** Replaces one base64 digit in the middle of a text by another. */
function flipped(base64: string): string {
  const at = base64.length >> 2
  return base64.slice(0, at) + (base64[at] === 'A' ? 'B' : 'A') + base64.slice(at + 1)
}

function replaced(from: string | RegExp, to: string): string {
  const mutant = DOCUMENT.replace(from, to)
  expect(mutant).not.toBe(DOCUMENT)
  return mutant
}

describe('the vector of sops A19', () => {
  test('sops A19 opens into the values printed there', async () => {
    const keys = await parseIdentities(Buffer.from(`# test-only\n${IDENTITY}\n`))
    const held = keys.map((key) => ({ ...key, subjects: [], shared: false }))
    const opened = await openDocument('yaml', Buffer.from(DOCUMENT), { identities: held })
    const at = (path: string): string | undefined => {
      const value = opened.branches[0] && valueAt(opened.branches[0], parsePath(path) ?? [])
      return value && rawBytes(value).toString()
    }
    expect(['/db/user', '/db/password', '/ports/0', '/ports/1', '/note_unencrypted'].map(at)).toEqual([
      'app',
      'correct horse',
      '5432',
      '6432',
      'not secret',
    ])
  })

  const fields = Array.from(DOCUMENT.matchAll(/(data|iv|tag):([A-Za-z0-9+/=]+)/g))
  for (const [index, match] of fields.entries()) {
    const inMac = match.index > DOCUMENT.indexOf('mac:')
    test(`sops A19 flipping the ${match[1]} of token ${Math.floor(index / 3) + 1} is refused`, async () => {
      const value = match[2] ?? ''
      const mutant =
        DOCUMENT.slice(0, match.index) +
        match[0].replace(value, flipped(value)) +
        DOCUMENT.slice(match.index + match[0].length)
      expect(await outcome(mutant)).toBe(inMac ? 'MAC_MISMATCH' : 'TOKEN_INVALID')
    })
  }
  test('sops A19 flipping any line of the wrapped key is NO_KEY_OPENED', async () => {
    const enc = /(?<=enc: "-----BEGIN AGE ENCRYPTED FILE-----\\n).*?(?=\\n-----END)/.exec(DOCUMENT)?.[0] ?? ''
    const lines = enc.split('\\n')
    expect(lines).toHaveLength(5)
    for (const line of lines) expect(await outcome(replaced(line, flipped(line)))).toBe('NO_KEY_OPENED')
  })
  test('sops A19 swapping the two ports, whose AAD is equal, is MAC_MISMATCH', async () => {
    const [first, second] = DOCUMENT.match(/ENC\[.*type:int\]/g) as [string, string]
    const mutant = DOCUMENT.replace(first, '<>').replace(second, first).replace('<>', second)
    expect(await outcome(mutant)).toBe('MAC_MISMATCH')
  })
  const mutants: [string, string | RegExp, string, string][] = [
    ['renaming an encrypted key', '    user:', '    usr:', 'TOKEN_INVALID'],
    ['renaming an ancestor', 'db:\n', 'bd:\n', 'TOKEN_INVALID'],
    ['dropping the mac', /\n {4}mac: .*/, '', 'MAC_MISMATCH'],
    ['changing lastmodified by a second', '10:00:00Z', '10:00:01Z', 'MAC_MISMATCH'],
    ['shortening a tag', 'tag:5DKA4YrDQQEr4La4aeRnaw==', 'tag:5DKA4Q==', 'TOKEN_INVALID'],
    ['changing a clear value', 'not secret', 'not secrets', 'MAC_MISMATCH'],
    ['dropping an element', /\n {4}- ENC.*/, '', 'MAC_MISMATCH'],
    ['repeating an element', /(\n {4}- ENC.*)/, '$1$1', 'MAC_MISMATCH'],
    [
      'appending a clear element',
      'note_unencrypted:',
      'more_unencrypted: x\nnote_unencrypted:',
      'MAC_MISMATCH',
    ],
    ['changing the rule so that clear text would be a token', '"_unencrypted"', '"_clear"', 'TOKEN_INVALID'],
    ['changing a type so that the canonical bytes stay', 'type:int', 'type:float', 'opens'],
  ]
  for (const [what, from, to, expected] of mutants) {
    test(`sops A19 ${what}: ${expected}${expected === 'opens' ? ' (A14: equal canonical bytes)' : ''}`, async () => {
      expect(await outcome(replaced(from, to))).toBe(expected)
    })
  }
  test('sops A9.4 a mac token of any type but str is refused', async () => {
    expect(await outcome(replaced(/(mac: .*)type:str/, '$1type:bytes'))).toBe('MAC_MISMATCH')
  })
})
