/**
 * Owns: the highest memory with 64 of the largest mounts there can be at once: 1 MiB of attributes, the
 * most the driver can pass on, and an answer just below the driver's receive limit of 4 MiB. Every
 * mount is of another service account, so that none shares with another.
 */
import { randomBytes } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { connectProvider, type WireMountRequest } from '../src/rpc/contract.ts'
import { median, repeated, row, spread, type Scenario } from './scenario.ts'
import { checkFiles, createIdentity, mountRequest, sealedDocument, sopsConfig } from './support/sops.ts'
import { delay, startBenchServer } from './support/server.ts'

const AT_ONCE = 64
const ATTRIBUTES_BYTES = 1024 * 1024
/** Sealed, each stays below the 1 MiB of a document; together 14 KiB below 4 MiB. */
const VALUE_BYTES = [780_000, 780_000, 780_000, 780_000, 780_000, 280_000]
/** What kubelet lets the driver have. */
const DEADLINE_MS = 110_000

export const peak: Scenario = {
  name: 'peak',
  title: `${AT_ONCE} of the largest mounts at once`,
  run: async ({ quick, directory, progress }) => {
    const identity = await createIdentity(directory)
    const values = await writeDocuments(directory, identity.recipient)
    const answerKiB = VALUE_BYTES.reduce((sum, bytes) => sum + bytes, 0) >> 10
    const atOnce = quick ? 8 : AT_ONCE
    const runs = await repeated(quick ? 1 : 3, async (index) => {
      progress(`peak: run ${index + 1}, ${atOnce} mounts of ${answerKiB} KiB`)
      const own = join(directory, `run-${index}`)
      await mkdir(own)
      const server = await startBenchServer({
        directory: own,
        config: sopsConfig(identity, {}, [join(directory, 'documents')]),
        dialects: ['sops'],
      })
      const client = connectProvider(server.socket('sops'), {
        'grpc.max_receive_message_length': 8 * 1024 * 1024,
      })
      try {
        const started = performance.now()
        let refused = 0
        let firstRefusal = ''
        await Promise.all(
          Array.from({ length: atOnce }, async (_, i) => {
            try {
              checkFiles(await client.mount(largest(i), { deadlineMs: DEADLINE_MS }), values)
            } catch (error) {
              refused += 1
              firstRefusal ||= error instanceof Error ? error.message : String(error)
            }
          }),
        )
        const seconds = (performance.now() - started) / 1000
        server.alive()
        const most = server.peak()
        await delay(quick ? 200 : 3000)
        return { most, refused, firstRefusal, seconds, after: server.memory().resident }
      } finally {
        client.close()
        await server.stop()
      }
    })
    const most = runs.map((run) => run.most)
    return [
      row({
        what: `peak resident memory, ${atOnce} largest mounts at once`,
        value: median(most),
        unit: 'MiB',
        target: { atMost: 256 },
        note: spread(most, 'MiB'),
      }),
      row({
        what: 'of these refused, with kubelet’s deadline',
        value: Math.max(...runs.map((run) => run.refused)),
        unit: '',
        target: { atMost: 0 },
        note:
          runs.map((run) => run.firstRefusal).find((text) => text !== '') ??
          'every file of every answer compared',
      }),
      row({ what: '  until all were answered', value: median(runs.map((run) => run.seconds)), unit: 's' }),
      row({
        what: '  resident 3 s later',
        value: median(runs.map((run) => run.after)),
        unit: 'MiB',
      }),
    ]
  },
}

async function writeDocuments(directory: string, recipient: string): Promise<Map<string, Buffer>> {
  const folder = join(directory, 'documents', 'large')
  await mkdir(folder, { recursive: true })
  const expected = new Map<string, Buffer>()
  for (const [i, bytes] of VALUE_BYTES.entries()) {
    const name = `value-${i}`
    const value = Buffer.from(randomBytes(bytes).toString('base64url').slice(0, bytes))
    expected.set(name, value)
    const document = await sealedDocument('json', new Map([[name, value]]), recipient)
    await writeFile(join(folder, `${name}.json`), document)
  }
  return expected
}

/** The `index`th of the largest requests. */
function largest(index: number): WireMountRequest {
  const make = (padding: string): WireMountRequest =>
    mountRequest({
      parameters: { sopsFile: 'large/', 'example.com/padding': padding },
      serviceAccount: `web-${index}`,
      pod: `web-${index}`,
      uid: `uid-${index}`,
    })
  const bare = make('').attributes.length
  return make('x'.repeat(ATTRIBUTES_BYTES - bare))
}
