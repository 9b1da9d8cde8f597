/**
 * Owns the one call whose SDK client is not among the dependencies, KMS Decrypt: its address, its
 * signature, and its refusal understood.
 */
import * as v from 'valibot'
import type { HttpResponse } from '../../net/http.ts'
import type { Host } from '../adapter.ts'
import type { AwsSession } from './credentials.ts'
import { AwsFailure, failureOf, refusal } from './failures.ts'
import type { AwsEnvironment } from './settings.ts'
import { signedHeaders } from './sigv4.ts'

/** Whom a call goes to, and with whose credentials. */
export interface KmsCaller {
  readonly environment: AwsEnvironment
  readonly host: Host
  readonly region: string
  readonly session: AwsSession
}

/** A clock that is this far off makes signatures invalid. */
const CLOCK_SKEW_MS = 4 * 60_000

const decryptReply = v.object({ Plaintext: v.pipe(v.string(), v.base64()) })

/**
 * Decrypts a ciphertext blob. Repeated once when the service's clock differs.
 * @throws AwsFailure
 */
export async function kmsDecrypt(
  caller: KmsCaller,
  input: Readonly<Record<string, unknown>>,
): Promise<Buffer> {
  let reply = await signedPost(caller, JSON.stringify(input))
  let refused = refusedBy(reply)
  const skew =
    refused === undefined ? 0 : Date.parse(reply.headers['date'] ?? '') - caller.host.now().getTime()
  if (
    refused?.kind === 'unauthenticated' &&
    Math.abs(skew - (caller.session.clockSkewMs ?? 0)) > CLOCK_SKEW_MS
  ) {
    caller.session.clockSkewMs = skew
    reply = await signedPost(caller, JSON.stringify(input))
    refused = refusedBy(reply)
  }
  if (refused !== undefined) throw refused
  const parsed = v.safeParse(decryptReply, jsonOf(reply))
  reply.body.fill(0)
  if (parsed.success) return Buffer.from(parsed.output.Plaintext, 'base64')
  throw new AwsFailure({
    kind: 'malformed',
    awsCode: 'malformed',
    message: 'the reply has no Plaintext',
    requestId: reply.headers['x-amzn-requestid'],
  })
}

async function signedPost(
  { environment, host, region, session }: KmsCaller,
  body: string,
): Promise<HttpResponse> {
  const url = new URL(environment.endpoint('kms', region) ?? kmsUrl(region, environment))
  const headers = {
    'content-type': 'application/x-amz-json-1.1',
    'x-amz-target': 'TrentService.Decrypt',
    'user-agent': `keyferry app/${environment.appId}`,
  }
  const now = new Date(host.now().getTime() + (session.clockSkewMs ?? 0))
  const request = { url, headers, body, region, service: 'kms' }
  try {
    return await host.http.send({
      method: 'POST',
      url: url.href,
      headers: signedHeaders(request, await session.source(), now),
      body,
      to: environment.to,
      signal: host.signal,
      timeoutMs: environment.requestTimeoutMs,
      maxBytes: 64 * 1024,
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

interface Partition {
  /** What its regions begin with. */
  readonly prefix: string
  readonly suffix: string
  readonly dualStackSuffix: string
}

const COMMERCIAL: Partition = {
  prefix: '',
  suffix: 'amazonaws.com',
  dualStackSuffix: 'api.aws',
}

const PARTITIONS: readonly Partition[] = (
  [
    ['cn-', 'amazonaws.com.cn', 'api.amazonwebservices.com.cn'],
    ['us-gov-', 'amazonaws.com', 'api.aws'],
    ['us-isob-', 'sc2s.sgov.gov', 'api.aws.scloud'],
    ['us-isof-', 'csp.hci.ic.gov', 'api.aws.hci.ic.gov'],
    ['us-iso-', 'c2s.ic.gov', 'api.aws.ic.gov'],
    ['eu-isoe-', 'cloud.adc-e.uk', 'api.cloud-aws.adc-e.uk'],
    ['eusc-', 'amazonaws.eu', 'api.amazonwebservices.eu'],
  ] as const
).map(([prefix, suffix, dualStackSuffix]) => ({ prefix, suffix, dualStackSuffix }))

/** AWS's own address of KMS. `region` must be a region's name: it becomes part of the host. */
export function kmsUrl(
  region: string,
  { fips, dualStack }: { readonly fips: boolean; readonly dualStack: boolean },
): string {
  const { suffix, dualStackSuffix } = PARTITIONS.find(({ prefix }) => region.startsWith(prefix)) ?? COMMERCIAL
  return `https://kms${fips ? '-fips' : ''}.${region}.${dualStack ? dualStackSuffix : suffix}/`
}
