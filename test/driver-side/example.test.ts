/** The example of docs/testing.md, which is this file's middle, and must stay it. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { startKubelet } from '../../src/driver/kubelet.ts'
import { startNode } from '../../src/driver/node.ts'
import { answer, startProvider } from './provider.ts'

async function startYourProvider(dir: string) {
  let password = 'old'
  const provider = await startProvider(dir, 'vault', ({ attributes }) =>
    attributes.includes('vault')
      ? answer({ 'db-password': password }, password)
      : { code: 3, details: 'no role' },
  )
  return { change: (to: string) => (password = to), stop: () => provider.kill() }
}

// example
test('vault-01 a secret arrives and follows its changes', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'sockets-'))
  const provider = await startYourProvider(dir) // listens on <dir>/vault.sock
  const node = await startNode({ profile: '1.6', providerDirs: [dir], rotation: 120_000 })
  try {
    const volume = {
      pod: { name: 'web-0', namespace: 'shop', serviceAccount: 'web' },
      spc: {
        name: 'db',
        provider: 'vault',
        parameters: { roleName: 'web', objects: '- objectName: db-password' },
      },
      tokens: { vault: 'a.service.account.token' },
    }
    const { code, message, target } = await node.publish(volume)
    expect({ code, message }).toEqual({ code: 'OK', message: '' })
    expect(node.files(target).get('db-password')).toEqual({ mode: 0o644, contents: Buffer.from('old') })

    provider.change('new')
    await node.tick() // two minutes later
    expect(node.files(target).get('db-password')?.contents.toString()).toBe('new')

    const kubelet = startKubelet(node)
    const broken = kubelet.add({ ...volume, pod: { name: 'web-1' }, spc: { name: 'no', provider: 'vault' } })
    await kubelet.advance(60_000) // a minute of retries
    expect(broken.attempts.at(-1)?.result.event).toMatch(
      /^MountVolume\.SetUp failed .* parameters not set in default\/no$/,
    )
    expect(kubelet.trapped()).toEqual([]) // no container started on an empty volume
  } finally {
    await node.close()
    await provider.stop()
    rmSync(dir, { recursive: true })
  }
})
// end

test('docs/testing.md shows the example that is tested here', () => {
  const between = (text: string, from: string, to: string): string =>
    text.split(from)[1]?.split(to)[0]?.trim() ?? ''
  const here = readFileSync(new URL(import.meta.url), 'utf8')
  const shown = readFileSync(new URL('../../docs/testing.md', import.meta.url), 'utf8')
  expect(between(shown, '```ts\n', '```')).toBe(between(here, '// example\n', '// end\n'))
})
