/** Owns what the chaos tests share: pods, volumes, and what must hold after every accident (T29, driver 4). */
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'vitest'
import { isFinal } from '../../src/driver/codes.ts'
import type { Kubelet } from '../../src/driver/kubelet.ts'
import type { TestNode, VolumeResult } from '../../src/driver/node.ts'
import type { VolumeRequest } from '../../src/driver/volume-request.ts'
import { sopsVolume, type SopsNode } from '../support/sops-node.ts'

/** Rotation on and volumes emulated: what the empty-volume trap needs, and hundreds of volumes. */
export async function rotatingNode(here: SopsNode): Promise<TestNode> {
  return here.node({ rotation: 120_000, mounts: 'emulated' })
}

function pod(index: number, namespace: string): VolumeRequest['pod'] {
  return { name: `web-${index}`, namespace, serviceAccount: 'web' }
}

/** A volume of pod `web-<index>` from the store over HTTP. */
export function valueVolume(index: number, keys = 'db', namespace = 'shop'): VolumeRequest {
  const spc = { name: `values-${keys}`, provider: 'http-values', parameters: { keys } }
  return { pod: pod(index, namespace), spc, tokens: { 'http-values': 'a.service-account.token' } }
}

/** A volume of pod `web-<index>` from the embedded store. */
export function documentVolume(index: number): VolumeRequest {
  return sopsVolume({ sopsFile: 'shop/db.yaml' }, { pod: pod(index, 'shop') })
}

/** What every accident must leave behind: no trap, and none of the five codes (driver 4). */
export function expectNobodyTrapped(kubelet: Kubelet): void {
  expect(kubelet.trapped()).toEqual([])
  for (const { attempts } of kubelet.volumes)
    for (const { result } of attempts) expect(isFinal(result.code)).toBe(true)
}

/** Every pod runs and sees files. */
export function expectFilled(kubelet: Kubelet): void {
  for (const volume of kubelet.volumes) {
    expect(volume.started?.mounted).toBe(true)
    expect(volume.visibleFiles().size).toBeGreaterThan(0)
  }
}

/**
 * Kubelet goes on until `holds`, or the test's time is over. Its clock is the node's, and a circuit opens and closes by
 * the provider's, which is real.
 */
export async function goOnUntil(kubelet: Kubelet, holds: () => boolean): Promise<void> {
  while (!holds()) {
    await kubelet.advance(75_000)
    await sleep(100)
  }
}

/** The different codes of some publishes. */
export function codesOf(results: readonly VolumeResult[]): string[] {
  return [...new Set(results.map(({ code }) => code))]
}
