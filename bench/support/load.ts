/** Owns the asking side of a measurement: a load generator in a process of its own, and single checked calls. */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import {
  API_VERSION,
  connectProvider,
  MOUNT_METHOD,
  VERSION_METHOD,
  type WireMountRequest,
  type WireMountResponse,
} from '../../src/rpc/contract.ts'

/** A call that is made over and over. */
export interface JobCall {
  readonly path: string
  /** Encoded request, base64. */
  readonly message: string
  /** Length of a right answer with its gRPC prefix; any other length counts as wrong. */
  readonly answerBytes: number
}

export interface Job {
  readonly socket: string
  /** Made in turns. */
  readonly calls: readonly JobCall[]
  readonly inFlight: number
  /** Calls in all. */
  readonly total: number
}

export interface JobResult {
  readonly seconds: number
  /** Processor time of the generator itself. */
  readonly processorSeconds: number
  readonly wrong: number
  readonly firstWrong: string
  /** By call, in the order of the job. */
  readonly latenciesMs: readonly (readonly number[])[]
}

export interface Generator {
  /** @throws Error when a call was answered wrongly or the connection broke. */
  run(job: Job): Promise<JobResult>
  stop(): Promise<void>
}

/** Starts the generator's process. */
export function startGenerator(): Generator {
  const child = fork(join(import.meta.dirname, 'generator.ts'), { stdio: 'inherit' })
  const exited = once(child, 'exit')
  return {
    run: async (job) => {
      const answer = once(child, 'message')
      child.send(job)
      const [result] = (await Promise.race([
        answer,
        exited.then(([code]) => [{ failed: `the generator ended with ${String(code)}` }]),
      ])) as [JobResult | { failed: string }]
      if ('failed' in result) throw new Error(result.failed)
      if (result.wrong > 0)
        throw new Error(`${result.wrong} of ${job.total} calls went wrong: ${result.firstWrong}`)
      return result
    },
    stop: async () => {
      child.disconnect()
      await exited
    },
  }
}

const PREFIX_BYTES = 5

/** An empty call: `Version`. */
export function versionCall(answerBytes: number): JobCall {
  const message = VERSION_METHOD.requestSerialize({ version: API_VERSION })
  return { path: VERSION_METHOD.path, message: message.toString('base64'), answerBytes }
}

/** A `Mount`, with the answer that a first one gave. */
export function mountCall(request: WireMountRequest, first: WireMountResponse): JobCall {
  return {
    path: MOUNT_METHOD.path,
    message: MOUNT_METHOD.requestSerialize(request).toString('base64'),
    answerBytes: MOUNT_METHOD.responseSerialize(first).length + PREFIX_BYTES,
  }
}

const ONE_CALL_MS = 60_000

/** One mount with a real gRPC client. @throws ServiceError */
export async function mountOnce(socket: string, request: WireMountRequest): Promise<WireMountResponse> {
  const client = connectProvider(socket, { 'grpc.max_receive_message_length': 8 * 1024 * 1024 })
  try {
    return await client.mount(request, { deadlineMs: ONE_CALL_MS })
  } finally {
    client.close()
  }
}

/** Length of the answer to `Version` with its gRPC prefix. */
export async function versionAnswerBytes(socket: string): Promise<number> {
  const client = connectProvider(socket)
  try {
    const answer = await client.version({ deadlineMs: ONE_CALL_MS })
    return VERSION_METHOD.responseSerialize(answer).length + PREFIX_BYTES
  } finally {
    client.close()
  }
}
