/**
 * A provider process made of our real server (sockets, legacy authority, admission, final codes, drain)
 * and a pipeline that answers from the JSON file named by the attribute `answer`. Arguments: the name
 * to serve, then the socket directories.
 */
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { MountFailure } from '../../src/mount/errors.ts'
import type { MountPipeline } from '../../src/mount/answer.ts'
import { startServer } from '../../src/server/server.ts'
import { createLogger } from '../../src/telemetry/pino-log.ts'
import type { Answer } from './scripted.ts'

const [name = '', ...directories] = process.argv.slice(2)

const pipeline: MountPipeline = async (request) => {
  const answer = JSON.parse(readFileSync(request.parameters.get('answer') ?? '', 'utf8')) as Answer
  if (answer.delayMs !== undefined) await sleep(answer.delayMs)
  if (answer.code !== undefined)
    throw MountFailure.of('unavailable', 'SCRIPTED', answer.message ?? 'scripted failure', 'None is needed')
  return {
    files: (answer.files ?? []).map(({ path, mode = request.defaultMode, text = '' }) => ({
      path,
      mode,
      contents: Buffer.from(text),
    })),
    versions: answer.versions ?? [{ id: 'all', version: '1' }],
    release: () => {},
  }
}

const server = await startServer({
  providers: [{ name, runtimeName: 'server-process', runtimeVersion: '0.0.0' }],
  directories: directories.map((path) => ({ path })),
  pipeline,
  log: createLogger('info'),
})
process.stdout.write('ready\n')
process.on('SIGTERM', () => {
  void server.close({ drainMs: 20_000 }).then(() => process.exit(0))
})
