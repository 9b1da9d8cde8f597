/** The database engine on a real PostgreSQL 15: one dynamic user while the pod lives, none a minute after it is gone. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { createPodWatch } from '../../src/kubernetes/pod-watch.ts'
import { silentLogger } from '../../src/telemetry/log.ts'
import { PEER_PASSWORD, peerProgram, startPeer, type Peer } from '../peers/start.ts'
import { describeWithPeers } from '../peers/suite.ts'
import { createHarness, POD, testPodWatch, type Harness } from '../providers/vault/harness.ts'
import { object } from '../providers/vault/set-up.ts'
import { admin, enableJwtAuth, issuer, type Admin } from './openbao-client.ts'

const CREDS =
  object('username', 'database/creds/app', 'username') + object('password', 'database/creds/app', 'password')

describeWithPeers('OpenBao with PostgreSQL', { programs: ['bao', 'postgres', 'psql'] }, () => {
  const keys = issuer()
  let bao: Peer
  let postgres: Peer
  let root: Admin

  beforeAll(async () => {
    ;[bao, postgres] = await Promise.all([startPeer('bao'), startPeer('postgres')])
    root = admin(bao.address, PEER_PASSWORD)
    await enableJwtAuth(root, keys.publicKey)
    await root.call('POST', 'sys/mounts/database', { type: 'database' })
    const { host } = new URL(postgres.address)
    await root.call('POST', 'database/config/pg', {
      plugin_name: 'postgresql-database-plugin',
      allowed_roles: '*',
      connection_url: `postgresql://{{username}}:{{password}}@${host}/postgres?sslmode=disable`,
      username: 'admin',
      password: PEER_PASSWORD,
    })
    const creation_statements = [
      `CREATE ROLE "{{name}}" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'`,
    ]
    await root.call('POST', 'database/roles/app', {
      db_name: 'pg',
      creation_statements,
      default_ttl: '1h',
      max_ttl: '24h',
    })
    await root.call('POST', 'database/roles/brief', {
      db_name: 'pg',
      creation_statements,
      default_ttl: '6s',
      max_ttl: '24h',
    })
  })
  afterAll(async () => {
    await bao?.stop()
    await postgres?.stop()
  })

  const spc = (objects: string): Record<string, string> => ({
    roleName: 'web',
    baoAddress: bao.address,
    baoAuthMountPath: 'jwt',
    objects,
  })

  /** What `psql` prints for a query, as the dynamic user. */
  async function query(files: Readonly<Record<string, string>>, sql: string): Promise<string> {
    const { host } = new URL(postgres.address)
    const url = `postgresql://${files['username']}@${host}/postgres`
    const env = { ...process.env, PGPASSWORD: files['password'] }
    const { stdout } = await promisify(execFile)(peerProgram('psql'), ['-At', '-c', sql, url], { env })
    return stdout.trim()
  }

  /** Dynamic users that there are, seen by the administrator. */
  const users = async (): Promise<string> =>
    query(
      { username: 'admin', password: PEER_PASSWORD },
      "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'",
    )

  it('the dynamic user logs in, survives 50 republishes as one user, and is gone within a minute of its pod', async () => {
    // The pods of the node, as the API server would list them.
    const present = new Set([POD.uid])
    const watch = createPodWatch({
      client: { podUidsOnNode: () => Promise.resolve(present) },
      node: 'node-1',
      log: silentLogger,
      everyMs: 200,
    })
    const h: Harness = createHarness({
      provider: 'openbao',
      realTime: true,
      tokens: { openbao: keys.token() },
      settings: { addresses: [bao.address] },
      watch: { ...watch, gone: () => {} },
    })
    try {
      const first = await h.mount(spc(CREDS))
      expect(await query(first.files, 'SELECT current_user')).toBe(first.files['username'])
      for (let poll = 0; poll < 50; poll += 1) expect(await h.mount(spc(CREDS))).toEqual(first)
      expect(await users()).toBe('1')
      expect(await query(first.files, 'SELECT current_user')).toBe(first.files['username'])
      expect(h.figures.get('keyferry_leases{vault}')).toBe(1)
      present.clear()
      const gone = Date.now()
      await expect.poll(users, { timeout: 60_000, interval: 250 }).toBe('0')
      expect(Date.now() - gone).toBeLessThan(60_000)
      await expect(query(first.files, 'SELECT 1')).rejects.toThrow(/authentication failed|does not exist/)
      expect(h.figures.get('keyferry_leases{vault}')).toBe(0)
      expect(h.figures.get('keyferry_lease_events_total{vault,revoked}')).toBe(1)
    } finally {
      await h.close()
    }
  })

  it('a lease is renewed on the server while its pod lives, past its first end', async () => {
    const h = createHarness({
      provider: 'openbao',
      realTime: true,
      tokens: { openbao: keys.token() },
      settings: { addresses: [bao.address] },
      watch: testPodWatch(),
    })
    try {
      const { files } = await h.mount(spc(CREDS.replaceAll('creds/app', 'creds/brief')))
      await new Promise((resolve) => setTimeout(resolve, 9000))
      expect(await query(files, 'SELECT current_user')).toBe(files['username'])
      expect(h.figures.get('keyferry_lease_events_total{vault,renewed}')).toBeGreaterThanOrEqual(1)
    } finally {
      await h.close()
    }
  })

  it('two pods of one service account have users of their own, and one’s end leaves the other’s', async () => {
    const watch = testPodWatch()
    const h = createHarness({
      provider: 'openbao',
      realTime: true,
      tokens: { openbao: keys.token() },
      settings: { addresses: [bao.address] },
      watch,
    })
    try {
      const other = { ...POD, name: 'web-1', uid: 'uid-2' }
      const [a, b] = await Promise.all([h.mount(spc(CREDS)), h.mount(spc(CREDS), other)])
      expect(a.files['username']).not.toBe(b.files['username'])
      watch.gone(POD.uid)
      await h.backend.keeper.idle()
      // The server takes the order at once, and the user away in the background.
      const refusal = async (): Promise<string> => query(a.files, 'SELECT 1').catch(String)
      await expect.poll(refusal, { timeout: 20_000 }).toMatch(/authentication failed|does not exist/)
      expect(await query(b.files, 'SELECT current_user')).toBe(b.files['username'])
    } finally {
      await h.close()
    }
  })
})
