/**
 * Owns the life of one Mount call: read → decoded → admitted → pipeline → encoded → flushed → wiped,
 * with a time budget over all of it. Whatever happens, the call is answered once and in time, and gives
 * back everything it held (driver.md sections 4 and 8).
 */
import { status, type ServerInterceptingCallInterface } from '@grpc/grpc-js'
import { constants, type ServerHttp2Stream } from 'node:http2'
import type { MountAnswer, MountPipeline } from '../mount/answer.ts'
import { MountFailure } from '../mount/errors.ts'
import { decodeMountRequest, type MountRequest } from '../mount/request.ts'
import { MOUNT_REQUEST, MOUNT_RESPONSE, type WireMountRequest } from '../rpc/contract.ts'
import { decode, encodedLength, encodeInto, WireError, type Decoded } from '../rpc/wire.ts'
import type { Logger } from '../telemetry/log.ts'
import { givingWay, type Admission, type ByteBudget, type ByteClaim } from './admission.ts'
import { FAILURE, statusOf, type FinalStatus } from './final-status.ts'

/** How a Mount call ended, for metrics and log. Holds no value and nothing the caller wrote but its namespace. */
export interface MountReport {
  readonly provider: string
  /** Empty when the request could not be decoded. */
  readonly namespace: string
  /** gRPC code; 0 for a mount whose files were handed to the driver. */
  readonly grpcCode: number
  /** `ok`, an error kind, `cancelled` when the caller hung up first, `refused` when it broke the protocol. */
  readonly outcome: string
  readonly durationMs: number
  /** Of these, milliseconds in the queue. */
  readonly queuedMs: number
  /** Bytes of the encoded response; 0 for a failure. */
  readonly responseBytes: number
}

/** What all Mount calls of a process share. */
export interface MountHost {
  readonly pipeline: MountPipeline
  readonly admission: Admission<() => void>
  /** Request bytes being read or waiting in the queue. */
  readonly requests: ByteBudget
  /** Encoded response bytes on their way to the driver. */
  readonly responses: ByteBudget
  readonly maxRequestBytes: number
  /** A request that could not be read for so many milliseconds has another namespace's waiting ones give way. */
  readonly giveWayMs: number
  readonly maxResponseBytes: number
  /** Time a call may take when its deadline allows more, in milliseconds. */
  readonly budgetMs: number
  /** A driver that has not taken its response by so many milliseconds after the budget never will. */
  readonly flushGraceMs: number
  readonly log: Logger
  readonly report: (report: MountReport) => void
  /** Calls whose answer is not yet flushed; the server waits for them when it has to stop. */
  readonly live: Set<MountCall>
}

export interface MountCall {
  /** Calls `read` once there is room for the request. */
  admitReading(read: () => void): void
  /** What it holds while it waits for a slot. */
  waiting(): { readonly namespace: string; readonly bytes: number } | undefined
  /** Runs the mount in `bytes`, a whole MountRequest, and calls `reply` with the response if there is one. */
  run(bytes: Buffer, reply: (response: LateBuffer) => void): void
  /** The call is over for the transport: flushed, failed or cancelled. */
  closed(): void
  /** Ends the call with `failure` unless it has been answered. */
  fail(failure: MountFailure): void
}

/**
 * A message that is encoded when grpc-js copies it into its frame, so that the secrets exist once and
 * the copy that grpc-js makes is known here and can be wiped. grpc-js reads `byteLength` and calls
 * `copy` once; a test holds it to that.
 */
export interface LateBuffer {
  readonly byteLength: number
  copy(target: Buffer, start: number): number
}

/** gRPC code for a caller that hung up; reported only, never sent. */
const CANCELLED = 1
/** Part of the remaining time that is kept for sending the answer, and its bounds in milliseconds. */
const MARGIN = { share: 0.1, least: 20, most: 5000 }

/** End of the budget of a call that starts `now` and whose caller waits until `callerDeadline`. */
export function budgetEnd(now: number, budgetMs: number, callerDeadline: number): number {
  const remaining = Math.max(0, callerDeadline - now)
  const margin = Math.min(MARGIN.most, Math.max(MARGIN.least, remaining * MARGIN.share))
  return Math.min(now + budgetMs, callerDeadline - margin)
}

/**
 * Begins a Mount call. `call` must send final codes only.
 * @param sent the status that `call` was ended with, possibly by grpc-js itself.
 */
export function openMountCall(
  host: MountHost,
  provider: string,
  call: ServerInterceptingCallInterface,
  sent: () => FinalStatus | undefined,
): MountCall {
  const started = Date.now()
  const deadline = budgetEnd(started, host.budgetMs, callerDeadline(call))
  const controller = new AbortController()
  let namespace = ''
  let queuedSince = 0
  let queuedMs = 0
  let answered = false
  let over = false
  let slot: 'none' | 'waiting' | 'running' = 'none'
  let answer: MountAnswer | undefined
  let frame: Buffer | undefined
  let delivered = (): void => {}
  let requestClaim: ByteClaim | undefined
  let responseClaim: ByteClaim | undefined
  let resume = (): void => {}
  let heldBytes = 0
  let unread: NodeJS.Timeout | undefined

  const report = (grpcCode: number, outcome: string, responseBytes: number): void => {
    const durationMs = Date.now() - started
    attempt(() =>
      host.report({ provider, namespace, grpcCode, outcome, durationMs, queuedMs, responseBytes }),
    )
  }
  /** Runs what others handed in at a place where nobody would catch it. */
  const attempt = (action: () => void): void => {
    try {
      action()
    } catch (error) {
      host.log.error('clean-up of a mount failed', { provider, namespace, ...placeOf(error) })
    }
  }
  const releaseAnswer = (): void => {
    const given = answer
    answer = undefined
    if (given) attempt(() => given.release())
  }

  /** Gives back everything that is not needed to flush the response. */
  const leave = (): void => {
    clearInterval(unread)
    requestClaim?.release()
    const held = slot
    slot = 'none'
    if (held === 'waiting') host.admission.withdraw(namespace, resume)
    if (held === 'running') for (const next of host.admission.finish(namespace)) next()
  }

  const fail = (failure: MountFailure): void => {
    if (answered) return
    answered = true
    clearTimeout(timer)
    timer = closeLate(host.flushGraceMs, () => mountCall.closed())
    controller.abort(failure)
    releaseAnswer()
    responseClaim?.release()
    report(failure.grpcCode, failure.kind, 0)
    call.sendStatus({ ...statusOf(failure), metadata: null })
    leave()
  }

  const failWith = (error: unknown): void => {
    if (error instanceof MountFailure) return fail(error)
    if (!answered) {
      // The text of an unexpected error could quote anything; its type and place cannot.
      host.log.error('mount failed unexpectedly', { provider, namespace, ...placeOf(error) })
    }
    return fail(FAILURE.internal)
  }

  const send = (response: Decoded, size: number, reply: (response: LateBuffer) => void): void => {
    if (answered) return
    answered = true
    const given = answer
    clearTimeout(timer)
    timer = closeLate(Math.max(0, deadline - Date.now()) + host.flushGraceMs, () => {
      resetStream(call)
      mountCall.closed()
    })
    delivered = () => given?.delivered?.()
    reply({
      byteLength: size,
      copy: (target, start) => {
        frame = target.subarray(start, start + size)
        const end = encodeInto(MOUNT_RESPONSE, response, target, start)
        releaseAnswer()
        return end - start
      },
    })
    report(0, 'ok', size)
  }

  const accept = (given: MountAnswer, reply: (response: LateBuffer) => void): void => {
    answer = given
    if (answered) {
      releaseAnswer()
      return
    }
    const response = { object_version: given.versions, files: given.files } as unknown as Decoded
    const size = encodedLength(MOUNT_RESPONSE, response)
    if (size > host.maxResponseBytes) {
      fail(FAILURE.responseTooLarge(size, host.maxResponseBytes))
      return
    }
    responseClaim = host.responses.claim(size, () => send(response, size, reply))
  }

  const start = (request: MountRequest, reply: (response: LateBuffer) => void): void => {
    Promise.resolve(request)
      .then((given) => host.pipeline(given, { provider, signal: controller.signal, deadline }))
      .then((given) => accept(given, reply))
      .catch(failWith)
  }

  const mountCall: MountCall = {
    admitReading: (read) => {
      unread = setInterval(() => makeRoom(host), host.giveWayMs).unref()
      requestClaim = host.requests.claim(host.maxRequestBytes, () => {
        clearInterval(unread)
        if (!answered) read()
      })
    },
    waiting: () => (slot === 'waiting' ? { namespace, bytes: heldBytes } : undefined),
    run: (bytes, reply) => {
      if (answered) return
      forgetReceived(call)
      requestClaim?.shrinkTo(bytes.length)
      heldBytes = bytes.length
      namespace = namespaceIn(bytes)
      // While it waits a request stays bytes: decoded it would take several times the room, in the heap.
      resume = () => {
        if (slot === 'waiting') queuedMs = Date.now() - queuedSince
        slot = 'running'
        try {
          start(decoded(bytes), reply)
        } catch (error) {
          failWith(error)
        }
        bytes.fill(0)
        giveBack(bytes)
        requestClaim?.release()
      }
      const offer = host.admission.offer(namespace, deadline, resume)
      if (offer === 'run') resume()
      if (offer === 'refused') fail(FAILURE.queueFull)
      if (offer === 'wait') {
        slot = 'waiting'
        queuedSince = Date.now()
      }
    },
    closed: () => {
      if (over) return
      over = true
      host.live.delete(mountCall)
      clearTimeout(timer)
      frame?.fill(0)
      // OK is sent once the frame is flushed; before that native code may still read it.
      if (frame && sent()?.code === status.OK) {
        giveBack(frame)
        attempt(delivered)
      }
      releaseAnswer()
      if (!answered) {
        answered = true
        controller.abort(new Error('the caller hung up'))
        const refusal = sent()
        report(refusal?.code ?? CANCELLED, refusal ? 'refused' : 'cancelled', 0)
      }
      responseClaim?.release()
      leave()
    },
    fail,
  }

  host.live.add(mountCall)
  const outOfTime =
    deadline === started + host.budgetMs ? FAILURE.outOfBudget(host.budgetMs) : FAILURE.deadline
  let timer = setTimeout(() => fail(outOfTime), Math.max(0, deadline - started))
  return mountCall
}

/** Room for one request: a storm of large ones must not keep others from being read at all (threat model T18). */
function makeRoom({ live, maxRequestBytes }: MountHost): void {
  const waiting = [...live].flatMap((call) => {
    const held = call.waiting()
    return held ? [{ ...held, call }] : []
  })
  for (const { call } of givingWay(waiting, maxRequestBytes)) call.fail(FAILURE.queueFull)
}

/** A transport that never says that a call is over must not hold its bytes for ever. */
function closeLate(afterMs: number, close: () => void): NodeJS.Timeout {
  return setTimeout(close, afterMs).unref()
}

function callerDeadline(call: ServerInterceptingCallInterface): number {
  const deadline = call.getDeadline()
  return deadline instanceof Date ? deadline.getTime() : deadline
}

function decoded(bytes: Buffer): MountRequest {
  try {
    return decodeMountRequest(decode(MOUNT_REQUEST, bytes) as unknown as WireMountRequest)
  } catch (error) {
    if (!(error instanceof WireError)) throw error
    throw MountFailure.of(
      'config',
      'BAD_REQUEST',
      `the Mount request is not valid protobuf: ${error.message}`,
      'Call Mount as the Secrets Store CSI Driver does',
    )
  }
}

/** gRPC's prefix of a message: compression flag and length. */
const PREFIX_BYTES = 5

/**
 * Returns the memory of a whole gRPC frame to the system now. Left to the garbage collector, a burst of
 * the largest mounts would keep a hundred MiB more. A message in Buffer's shared pool stays as it is.
 */
function giveBack(message: Buffer): void {
  const { buffer } = message
  if (buffer instanceof ArrayBuffer && buffer.byteLength === message.length + PREFIX_BYTES) buffer.transfer(0)
}

const NAMESPACE_KEY = Buffer.from('"csi.storage.k8s.io/pod.namespace":"')
const MAX_NAMESPACE_BYTES = 63

/**
 * The pod's namespace in an undecoded request, or `''`. Good enough to take turns by: the quotes around
 * the key can stand unescaped only where it is a key.
 */
function namespaceIn(bytes: Buffer): string {
  const key = bytes.indexOf(NAMESPACE_KEY)
  if (key < 0) return ''
  const start = key + NAMESPACE_KEY.length
  const value = bytes.subarray(start, start + MAX_NAMESPACE_BYTES + 1)
  const end = value.indexOf(0x22)
  return end < 0 ? '' : value.toString('latin1', 0, end)
}

const NOT_COMPRESSED = Buffer.alloc(1)

/** Class of an unexpected error and where it was thrown, without its message. */
function placeOf(error: unknown): { readonly error: string; readonly at: string } {
  if (!(error instanceof Error)) return { error: typeof error, at: '' }
  const frames = (error.stack ?? '').split('\n').filter((line) => line.startsWith('    at '))
  return { error: error.name, at: (frames[0] ?? '').trim() }
}

/**
 * Overwrites the pieces in which a whole message was received: grpc-js has copied them together, but keeps
 * them, tokens and all, as long as the call's stream, which lives until the next great garbage collection.
 */
function forgetReceived(call: ServerInterceptingCallInterface): void {
  const { decoder } = call as unknown as {
    decoder?: { readPartialMessage: Buffer[]; readCompressFlag: Buffer }
  }
  if (decoder === undefined) return
  for (const piece of decoder.readPartialMessage) piece.fill(0)
  decoder.readPartialMessage = []
  decoder.readCompressFlag = NOT_COMPRESSED
}

/** Resets the call's stream with a code that gRPC reads as INTERNAL. grpc-js has no public way to do so. */
function resetStream(call: ServerInterceptingCallInterface): void {
  const { stream } = call as unknown as { stream?: ServerHttp2Stream }
  stream?.close(constants.NGHTTP2_INTERNAL_ERROR)
}
