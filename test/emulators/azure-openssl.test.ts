/** OpenSSL reads every PEM and PFX that we mount of Azure certificates, and finds key and chain equal to the source. */
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeWithPeers } from '../peers/suite.ts'
import { BASE, objects, startHarness, VAULT_HOST, type Harness } from '../providers/azure/harness.ts'

const folder = join(import.meta.dirname, '../vectors/pkcs12')

function whyNot(): string | undefined {
  try {
    execFileSync('openssl', ['version'], { stdio: 'pipe' })
    return undefined
  } catch {
    return 'openssl is not installed'
  }
}

describeWithPeers('what we mount of Azure certificates, read by OpenSSL', { unless: whyNot() }, () => {
  let harness: Harness
  beforeAll(async () => {
    harness = await startHarness()
  })
  afterAll(() => harness.stop())

  const openssl = (...args: readonly string[]): string =>
    execFileSync('openssl', args, { cwd: harness.fake.directory, stdio: 'pipe' }).toString()
  async function mounted(name: string, objectFormat: string): Promise<void> {
    const pfx = readFileSync(join(folder, `${name}.pfx`)).toString('base64')
    const objectName = `${name}-${objectFormat}`
    harness.fake.vault(VAULT_HOST).certificateSecret(objectName, pfx, 'application/x-pkcs12')
    const encoding = objectFormat === 'pfx' ? { objectEncoding: 'base64' } : {}
    const { files } = await harness.mount({
      ...BASE,
      objects: objects({ objectName, objectType: 'secret', objectFormat, ...encoding }),
    })
    writeFileSync(join(harness.fake.directory, 'mounted'), files[0]?.bytes ?? '')
  }
  const withoutAttributes = (text: string): string => text.replaceAll(/^(?!-----|[A-Za-z0-9+/=]+$).*\n/gm, '')

  test.each([
    'rc2-40',
    'rc2-128',
    '3des',
    '2des',
    'aes256-sha256',
    'aes128-sha512',
    'no-mac',
    'ec-p256',
    'ec-p384',
    'ec-p521',
    'ec-secp256k1',
  ])(
    'azure-43 %s as PEM: the key is the source’s and belongs to the leaf, the chain runs from leaf to root',
    async (name) => {
      await mounted(name, 'pem')
      expect(openssl('pkey', '-in', 'mounted', '-pubout')).toBe(
        openssl('x509', '-in', 'mounted', '-noout', '-pubkey'),
      )
      const source = ['-legacy', '-provider', 'legacy', '-provider', 'default', '-passin', 'pass:']
      const theirs = openssl('pkcs12', '-in', join(folder, `${name}.pfx`), ...source, '-nodes', '-nocerts')
      writeFileSync(join(harness.fake.directory, 'source'), withoutAttributes(theirs))
      expect(openssl('pkey', '-in', 'mounted')).toBe(openssl('pkey', '-in', 'source'))
      openssl('crl2pkcs7', '-nocrl', '-certfile', 'mounted', '-out', 'chain')
      const subjects = openssl('pkcs7', '-in', 'chain', '-print_certs', '-noout')
        .split('\n')
        .filter((line) => line.startsWith('subject='))
        .map((line) => line.replace(/^.*CN *= */, ''))
      expect(subjects).toHaveLength(3)
      expect(subjects.slice(1)).toEqual(['Test Intermediate', 'Test Root'])
      const root = join(folder, 'root.crt.pem')
      expect(openssl('verify', '-CAfile', root, '-untrusted', 'mounted', 'mounted')).toContain('mounted: OK')
    },
  )

  test('azure-35 as PFX: the file itself', async () => {
    await mounted('aes256-sha256', 'pfx')
    expect(openssl('pkcs12', '-in', 'mounted', '-passin', 'pass:', '-nodes', '-nocerts')).toContain(
      'BEGIN PRIVATE KEY',
    )
  })
})
