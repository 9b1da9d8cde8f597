/** Owns the proof that each server peer starts, answers its own protocol and ends. */
import { execFileSync } from 'node:child_process'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { peerProgram, startPeer, PEER_PASSWORD } from '../peers/start.ts'
import type { Peer, PeerName } from '../peers/start.ts'
import { describeWithPeers } from '../peers/suite.ts'

/** Declares a suite with a running peer; the last test stops it. */
function withPeer(name: PeerName, programs: readonly string[], body: (peer: () => Peer) => void): void {
  describeWithPeers(`peer ${name}`, { programs }, () => {
    let peer: Peer | undefined
    const current = () => {
      if (!peer) throw new Error(`${name} was not started`)
      return peer
    }
    beforeAll(async () => {
      peer = await startPeer(name)
    })
    afterAll(async () => {
      await peer?.stop()
    })
    body(current)
    test(`${name} ends within a second when asked`, async () => {
      const { tookMs } = await current().stop()
      expect(tookMs).toBeLessThan(1_000)
      expect(current().running()).toBe(false)
    })
  })
}

withPeer('moto', ['moto-python'], (peer) => {
  test('moto answers on its loopback port', async () => {
    const response = await fetch(`${peer().address}/moto-api/data.json`)
    expect(response.status).toBe(200)
    expect(await response.json()).toBeTypeOf('object')
  })
})

withPeer('bao', ['bao'], (peer) => {
  test('OpenBao 2.4.0 takes the root token', async () => {
    const get = async (path: string, token: string) =>
      fetch(`${peer().address}/v1/${path}`, { headers: { 'X-Vault-Token': token } })
    expect(await (await get('sys/health', PEER_PASSWORD)).json()).toMatchObject({ version: '2.4.0' })
    expect((await get('auth/token/lookup-self', PEER_PASSWORD)).status).toBe(200)
    expect((await get('auth/token/lookup-self', 'wrong')).status).toBe(403)
  })
})

withPeer('postgres', ['initdb', 'postgres', 'pg_isready'], (peer) => {
  test('PostgreSQL accepts connections', () => {
    const { port, hostname } = new URL(peer().address)
    const output = execFileSync(peerProgram('pg_isready'), ['-h', hostname, '-p', port], { encoding: 'utf8' })
    expect(output).toContain('accepting connections')
  })
})
