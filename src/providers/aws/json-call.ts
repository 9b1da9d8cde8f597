/**
 * Owns one call of AWS's JSON 1.1 protocol: signed, sent, and its refusal understood.
 *
 * Own code although the SDK has it: a mount of ten secrets costs 5.7 ms of processor time through the
 * SDK's clients and 3.0 ms like this (design.md section 7 allows 4), and its clients would take the
 * process over its memory limit.
 */
import * as v from 'valibot'
import type { HttpResponse } from '../../net/http.ts'
import type { Host } from '../adapter.ts'
import type { AwsSession } from './credentials.ts'
import type { ServiceName } from './endpoints.ts'
import { AwsFailure, failureOf, refusal } from './failures.ts'
import type { AwsEnvironment } from './settings.ts'
import { signedHeaders } from './sigv4.ts'

/** A service that speaks JSON 1.1. */
export interface JsonService {
  readonly name: Exclude<ServiceName, 'sts'>
  /** What stands before the action in `X-Amz-Target`. */
  readonly target: string
}

/** Whom a call goes to, and with whose credentials. */
export interface JsonCaller {
  readonly environment: AwsEnvironment
  readonly host: Host
  readonly region: string
  readonly session: AwsSession
}

/** A clock that is this far off makes signatures invalid. */
const CLOCK_SKEW_MS = 4 * 60_000

/**
 * Calls `action` and checks the shape of its answer. Repeated once when the service's clock differs.
 * @throws AwsFailure
 */
export async function jsonCall<T>(
  caller: JsonCaller,
  service: JsonService,
  action: string,
  input: Readonly<Record<string, unknown>>,
  answer: v.GenericSchema<unknown, T>,
): Promise<T> {
  let reply = await signedPost(caller, service, action, JSON.stringify(input))
  let refused = refusedBy(reply)
  const skew =
    refused === undefined ? 0 : Date.parse(reply.headers['date'] ?? '') - caller.host.now().getTime()
  if (
    refused?.kind === 'unauthenticated' &&
    Math.abs(skew - (caller.session.clockSkewMs ?? 0)) > CLOCK_SKEW_MS
  ) {
    caller.session.clockSkewMs = skew
    reply = await signedPost(caller, service, action, JSON.stringify(input))
    refused = refusedBy(reply)
  }
  if (refused !== undefined) throw refused
  const parsed = v.safeParse(answer, jsonOf(reply))
  reply.body.fill(0)
  if (parsed.success) return parsed.output
  throw new AwsFailure({
    kind: 'malformed',
    awsCode: 'malformed',
    message: `the reply to ${action} is not in AWS's format`,
    requestId: reply.headers['x-amzn-requestid'],
  })
}

async function signedPost(
  { environment, host, region, session }: JsonCaller,
  service: JsonService,
  action: string,
  body: string,
): Promise<HttpResponse> {
  const url = environment.url(service.name, region)
  const headers = {
    'content-type': 'application/x-amz-json-1.1',
    'x-amz-target': `${service.target}.${action}`,
    'user-agent': `keyferry app/${environment.appId}`,
  }
  const now = new Date(host.now().getTime() + (session.clockSkewMs ?? 0))
  const request = { url, headers, body, region, service: service.name }
  try {
    return await host.http.send({
      method: 'POST',
      url: url.href,
      headers: signedHeaders(request, await session.source(), now),
      body,
      to: environment.to,
      signal: host.signal,
      timeoutMs: environment.requestTimeoutMs,
    })
  } catch (error) {
    throw failureOf(error)
  }
}

/** A parser's error would quote the reply, so there is none. */
function jsonOf(reply: HttpResponse): unknown {
  try {
    return JSON.parse(reply.body.toString())
  } catch {
    return undefined
  }
}

const errorReply = v.object({
  __type: v.string(),
  message: v.optional(v.nullable(v.string())),
  Message: v.optional(v.nullable(v.string())),
})

function refusedBy(reply: HttpResponse): AwsFailure | undefined {
  if (reply.status === 200) return undefined
  const at = { status: reply.status, requestId: reply.headers['x-amzn-requestid'] }
  const parsed = v.safeParse(errorReply, jsonOf(reply))
  if (!parsed.success)
    return new AwsFailure({
      kind: reply.status === 429 ? 'throttled' : reply.status >= 500 ? 'unavailable' : 'malformed',
      awsCode: `HTTP ${reply.status}`,
      message: `the reply (HTTP ${reply.status}) is not in AWS's format`,
      requestId: at.requestId,
    })
  const { __type: type, message, Message } = parsed.output
  const code = type.slice(type.indexOf('#') + 1).split(':')[0] ?? type
  return refusal(code, message ?? Message ?? '', at)
}
