/**
 * Owns the search for what must never leave the process except as files of a volume: canaries in
 * everything that `keyferry serve` emits, at every log level and on every way a mount can end (T22, T23).
 */
import { readdirSync, readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { TestNode, VolumeResult } from '../../src/driver/node.ts'
import { connectProvider, type WireMountRequest } from '../../src/rpc/contract.ts'
import { LOG_LEVELS } from '../../src/telemetry/log.ts'
import { mountRequest } from '../server/harness.ts'
import type { ServeProcess } from '../support/serve-process.ts'
import { sopsNode, sopsVolume, type SopsNode } from '../support/sops-node.ts'
import { silent, valueStore, type ValueStore } from '../support/value-store.ts'
import { dictionary, found, newCanary, spellings } from './canary.ts'
import { mountCases, tokensOf, type Case, type Canaries } from './mounts.ts'

const canaries: Canaries = {
  value: newCanary('value'),
  token: newCanary('token'),
  secret: newCanary('publish'),
}
const MIB = 1024 * 1024

/** Says back whatever it was told, in every way an HTTP service can. */
function hostileStore(key: string, request: IncomingMessage, response: ServerResponse): void {
  const told = encodeURIComponent(`${request.headers.authorization} ${canaries.value.text}`)
  const body = `${request.headers.authorization} ${canaries.value.text}`
  const headers = { 'x-told': told, 'www-authenticate': `Bearer error="${told}"` }
  if (key === 'good') response.writeHead(200, headers).end(canaries.value.text)
  else if (key === 'fails') response.writeHead(500, decodeURIComponent('x').concat(told), headers).end(body)
  else if (key === 'refuses') response.writeHead(403, headers).end(body)
  else if (key === 'huge') response.writeHead(200, headers).end(body.repeat((2 * MIB) / body.length))
  else {
    response.writeHead(200, { ...headers, 'content-length': '1000000' }).write(body)
    request.socket.destroySoon()
  }
}

/** Calls that no driver makes, with canaries where the faults are. */
function malformedCalls(): Record<string, WireMountRequest> {
  const { value, token, secret } = canaries
  const good = mountRequest()
  const attributes = JSON.parse(good.attributes) as Record<string, string>
  const withParameters = (more: object): WireMountRequest => ({
    ...good,
    attributes: JSON.stringify({ ...attributes, ...more }),
  })
  return {
    'attributes that are no JSON': { ...good, attributes: `{"sopsDocument": ${value.text}` },
    'attributes that are no object': { ...good, attributes: JSON.stringify([value.text]) },
    'attributes that are not strings': withParameters({ sopsDocument: { password: value.text } }),
    'secrets that are no JSON': { ...good, secrets: `{"password": ${secret.core}` },
    'secrets that are not strings': { ...good, secrets: JSON.stringify({ password: [secret.text] }) },
    'tokens among the secrets that are no JSON': {
      ...good,
      secrets: JSON.stringify({ 'csi.storage.k8s.io/serviceAccount.tokens': `{${token.core}` }),
    },
    'a permission that is none': { ...good, permission: secret.text },
    'no pod': { ...good, attributes: JSON.stringify({ sopsDocument: value.text, sopsFormat: 'yaml' }) },
  }
}

interface Run {
  readonly results: Map<string, { readonly expected: Case; readonly result: VolumeResult }>
  /** What was emitted, under the name of the channel. */
  readonly emitted: Map<string, string | Buffer>
  readonly malformed: Map<string, { readonly code: number; readonly details: string }>
  /** What the pods of successful mounts read. */
  readonly volumes: Buffer
  readonly versions: readonly string[]
  readonly drained: VolumeResult
}

let here: SopsNode
let store: ValueStore
let cases: Map<string, Case>
const runs = new Map<string, Run>()

async function callMalformed(socket: string): Promise<Run['malformed']> {
  const client = connectProvider(socket)
  const outcomes = new Map<string, { code: number; details: string }>()
  for (const [name, request] of Object.entries(malformedCalls())) {
    const outcome = await client.mount(request, { deadlineMs: 10_000 }).then(
      () => ({ code: 0, details: '' }),
      (error: { code: number; details: string }) => ({ code: error.code, details: error.details }),
    )
    outcomes.set(name, outcome)
  }
  client.close()
  return outcomes
}

/** Files of the process, with their content: everything below the directory but volumes and inputs. */
function filesOf(directory: string): Buffer {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true })
  const parts = entries.map((entry) => {
    const path = join(entry.parentPath, entry.name)
    return entry.isFile() ? Buffer.concat([Buffer.from(path), readFileSync(path)]) : Buffer.from(path)
  })
  return Buffer.concat(parts)
}

/** A mount that waits for its store while the process is told to end. */
async function endMidMount(node: TestNode, process: ServeProcess): Promise<VolumeResult> {
  store.answer = silent
  const before = store.calls.length
  const waiting = node.publish({
    pod: { name: 'late', namespace: 'shop', serviceAccount: 'web' },
    spc: { name: 'values', provider: 'http-values', parameters: { keys: 'late' } },
    tokens: tokensOf(canaries),
  })
  while (store.calls.length === before) await new Promise((resolve) => setTimeout(resolve, 5))
  await process.stop('SIGTERM')
  const result = await waiting
  store.answer = hostileStore
  return result
}

async function runAt(level: string): Promise<Run> {
  const config = here.config({ ...store.configuration, limits: { drain: '100ms' } })
  const process = await here.serve({ config, flags: ['--log-level', level] })
  const node = await here.node({ root: join(here.directory, `kubelet-${level}`) })
  const results: Run['results'] = new Map()
  for (const [name, expected] of cases) {
    results.set(name, { expected, result: await node.publish(expected.request) })
  }
  const malformed = await callMalformed(join(here.sockets, 'sops.sock'))
  const proc = `/proc/${process.pid}`
  const emitted = new Map<string, string | Buffer>([
    ['metrics', await process.metrics()],
    ['command line', readFileSync(`${proc}/cmdline`)],
    ['environment', readFileSync(`${proc}/environ`)],
  ])
  const volumes = Buffer.concat(
    [...results.values()].flatMap(({ result }) =>
      [...node.files(result.target).values()].map(({ contents }) => contents),
    ),
  )
  const drained = await endMidMount(node, process)
  const statuses = [...node.objects.statuses.values()]
  emitted.set('stdout and stderr', process.output())
  emitted.set('gRPC status', JSON.stringify([...results.values()].map(({ result }) => result.message)))
  emitted.set(
    'gRPC status of malformed calls',
    [...malformed.values()].map(({ details }) => details).join('\n'),
  )
  emitted.set('gRPC status of a mount that was drained', drained.message)
  emitted.set(
    'events',
    node.events
      .list()
      .map(({ message }) => message)
      .join('\n'),
  )
  emitted.set('SecretProviderClassPodStatus', JSON.stringify(statuses))
  emitted.set('driver log', node.log.join('\n'))
  emitted.set('temporary directory', filesOf(here.scratch))
  emitted.set('socket directory', filesOf(here.sockets))
  const versions = statuses.flatMap(({ status }) => status.objects.map(({ version }) => version))
  await node.close()
  return { results, emitted, malformed, volumes, versions, drained }
}

beforeAll(async () => {
  here = await sopsNode()
  store = await valueStore(hostileStore)
  here.afterwards(() => store.down())
  cases = await mountCases(here, canaries)
  for (const level of LOG_LEVELS) runs.set(level, await runAt(level))
}, 60_000)
afterAll(() => here.close())

const run = (level: string): Run => runs.get(level) as Run

describe.each(LOG_LEVELS)('log level %s', (level) => {
  it('T22 every mount of the suite ended as it must: the error paths were taken', () => {
    const ends = [...run(level).results].map(([name, { result }]) => [name, result.code])
    expect(Object.fromEntries(ends)).toEqual(
      Object.fromEntries([...cases].map(([name, { code }]) => [name, code])),
    )
    for (const { expected, result } of run(level).results.values()) {
      if (expected.says) expect(result.message).toMatch(expected.says)
    }
    for (const [name, { code }] of run(level).malformed) expect([name, code]).toEqual([name, 3])
    expect(run(level).drained).toMatchObject({ code: 'FailedPrecondition' })
  })

  it('T22 control: the search finds the value where it has to be, in the volumes', () => {
    expect(found(canaries.value, run(level).volumes)).toContain('raw')
  })

  it.each(Object.keys(canaries) as (keyof Canaries)[])('T22 no %s in anything emitted', (kind) => {
    for (const [channel, text] of run(level).emitted)
      expect({ channel, found: found(canaries[kind], text) }).toEqual({ channel, found: [] })
  })

  it('T22 control: every channel was read', () => {
    const { emitted } = run(level)
    expect(emitted.get('stdout and stderr')).toContain('"audit":"object"')
    expect(emitted.get('metrics')).toContain('keyferry_mounts_total{provider="sops",outcome="denied"} 2')
    expect(emitted.get('command line')?.toString()).toContain('--log-level')
    expect(emitted.get('environment')?.toString()).toContain('TMPDIR=')
    expect(emitted.get('events')).toContain('NOT_BOUND')
    expect(emitted.get('SecretProviderClassPodStatus')).toContain('"version"')
    expect(emitted.get('socket directory')?.toString()).toContain('sops.sock')
  })

  it('T23 no version is a plain digest of the content', () => {
    const { versions } = run(level)
    const digests = dictionary(Buffer.from(canaries.value.text))
    expect(versions.length).toBeGreaterThan(3)
    for (const version of versions) {
      for (let at = 0; at + 8 <= version.length; at += 1)
        expect(digests.has(version.slice(at, at + 8).toLowerCase())).toBe(false)
    }
  })
})

it('T23 a version made by us is keyed: two processes name the same content differently', () => {
  const versionsOf = (level: string): string[] => {
    const statuses = JSON.parse(String(run(level).emitted.get('SecretProviderClassPodStatus'))) as {
      status: { objects: { id: string; version: string }[] }
    }[]
    return statuses.flatMap(({ status }) =>
      status.objects.filter(({ id }) => id === 'good').map(({ version }) => version),
    )
  }
  const [first, ...others] = LOG_LEVELS.map(versionsOf)
  expect(first).toHaveLength(1)
  for (const other of others) {
    expect(other).toHaveLength(1)
    expect(other).not.toEqual(first)
  }
})

it('T22 control: each spelling of a canary is found in a text that holds it', () => {
  for (const [name, forms] of spellings(canaries.value))
    for (const form of forms) expect(found(canaries.value, `before ${form} after`)).toContain(name)
})

it('T22 SIGTERM in the middle of a mount of a document leaves nothing behind either', async () => {
  const process = await here.serve({ config: here.config() })
  const node = await here.node({ root: join(here.directory, 'kubelet-term') })
  const mounts = Array.from({ length: 8 }, (_, index) =>
    node.publish(
      sopsVolume(
        { sopsFile: 'shop/db.yaml' },
        { pod: { name: `p${index}`, namespace: 'shop', serviceAccount: 'web' } },
      ),
    ),
  )
  await process.stop('SIGTERM')
  await process.ended
  expect(found(canaries.value, process.output())).toEqual([])
  expect(filesOf(here.scratch).toString()).not.toContain('core')
  await here.serve({ config: here.config() })
  const ends = await Promise.all(mounts)
  expect(ends.map(({ code }) => code)).toEqual(mounts.map(() => 'OK'))
})
