/** What each test of the driver's side needs: a temporary directory, nodes and providers, all gone afterwards. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach } from 'vitest'
import { startNode, type NodeOptions, type TestNode } from '../../src/driver/node.ts'
import type { VolumeRequest } from '../../src/driver/volume-request.ts'
import { startProcess, type RunningProcess } from '../../src/driver/faults.ts'
import { startProvider, type Script, type ScriptedProvider } from './provider.ts'

const cleanups: (() => Promise<void> | void)[] = []

afterEach(async () => {
  for (const cleanup of cleanups.splice(0).toReversed()) await cleanup()
})

/** An empty directory, removed after the test. */
export function temporaryDir(): string {
  const dir = mkdtempSync(join(tmpdir(), 'keyferry-driver-'))
  cleanups.push(() => rmSync(dir, { recursive: true, force: true }))
  return dir
}

/** Runs after the test, last first. */
export function afterwards(cleanup: () => Promise<void> | void): void {
  cleanups.push(cleanup)
}

/** A node, closed after the test. The authority is one that grpc-js servers take, in both profiles. */
export async function node(
  options: Partial<NodeOptions> & { readonly providerDirs: readonly string[] },
): Promise<TestNode> {
  const started = await startNode({
    profile: '1.6',
    mounts: 'emulated',
    authority: 'localhost',
    reconnectBackoffMs: 50,
    ...options,
  })
  cleanups.push(() => started.close())
  return started
}

/** A provider, killed after the test. */
export async function provider(dir: string, script: Script, name = 'scripted'): Promise<ScriptedProvider> {
  const started = await startProvider(dir, name, script)
  cleanups.push(() => started.kill())
  return started
}

/** A node with one provider called `scripted`. */
export async function pair(
  script: Script,
  options: Partial<NodeOptions> = {},
): Promise<{ readonly node: TestNode; readonly provider: ScriptedProvider; readonly dir: string }> {
  const dir = temporaryDir()
  const started = await provider(dir, script)
  return { dir, provider: started, node: await node({ providerDirs: [dir], ...options }) }
}

/** A volume of pod `shop/web-0` with class `web-secrets` of provider `scripted`. */
export function volume(overrides: Partial<VolumeRequest> = {}): VolumeRequest {
  return {
    pod: { name: 'web-0', namespace: 'shop', serviceAccount: 'web' },
    spc: { name: 'web-secrets', provider: 'scripted', parameters: { objects: '- db' } },
    ...overrides,
  }
}

/** The scripted provider in a process of its own: it hangs, or dies at the first call. */
export async function providerProcess(dir: string, behaviour: 'hang' | 'die'): Promise<RunningProcess> {
  const script = fileURLToPath(new URL('provider-process.ts', import.meta.url))
  const started = await startProcess(process.execPath, [script, dir, behaviour], 'ready')
  cleanups.push(() => started.kill())
  return started
}
