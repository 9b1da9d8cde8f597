/**
 * Owns the load generator's process: takes a job over IPC, keeps a number of calls in flight on one
 * connection, as the driver does, and answers with what it saw. Started by {@link import('./load.ts')}.
 */
import { openConnection, prepareCall } from './frames.ts'
import type { Job, JobResult } from './load.ts'

async function run(job: Job): Promise<JobResult> {
  const connection = await openConnection(job.socket)
  const calls = job.calls.map((call) => ({
    ...call,
    prepared: prepareCall(call.path, Buffer.from(call.message, 'base64')),
  }))
  const latencies = calls.map((): number[] => [])
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  connection.onBroken = reject
  let sent = 0
  let done = 0
  let wrong = 0
  let firstWrong = ''

  const next = (): void => {
    const index = sent % calls.length
    const call = calls[index]
    if (sent >= job.total || call === undefined) return
    sent += 1
    const started = performance.now()
    connection.call(call.prepared, (end) => {
      latencies[index]?.push(performance.now() - started)
      if (end.dataBytes !== call.answerBytes) {
        wrong += 1
        firstWrong ||= `call ${call.path} brought ${end.dataBytes} bytes instead of ${call.answerBytes}`
      }
      done += 1
      if (done === job.total) resolve()
      else next()
    })
  }

  const started = performance.now()
  const before = process.cpuUsage()
  for (let i = 0; i < job.inFlight; i += 1) next()
  await promise
  const seconds = (performance.now() - started) / 1000
  const used = process.cpuUsage(before)
  connection.close()
  return {
    seconds,
    processorSeconds: (used.user + used.system) / 1e6,
    wrong,
    firstWrong,
    latenciesMs: latencies,
  }
}

process.on('message', (job: Job) => {
  run(job).then(
    (result) => process.send?.(result),
    (error: unknown) => process.send?.({ failed: error instanceof Error ? error.message : String(error) }),
  )
})
