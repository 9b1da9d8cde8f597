/** Owns the call to the EKS Pod Identity agent on the node (aws.md section 9). */
import * as v from 'valibot'
import { HttpError } from '../../net/http.ts'
import type { HttpResponse } from '../../net/http.ts'
import type { Host } from '../adapter.ts'
import { AwsFailure, failureOf, refusal } from './failures.ts'
import type { TemporaryCredentials } from './sdk.ts'
import { completeCredentials } from './sdk.ts'
import type { AwsEnvironment } from './settings.ts'

const agentReply = v.object({
  AccessKeyId: v.string(),
  SecretAccessKey: v.string(),
  Token: v.string(),
  Expiration: v.string(),
})

type AddressFamily = 'ipv4' | 'ipv6'

/** Failures after which the agent's other address may still answer. */
const NO_CONNECTION = new Set(['unreachable', 'timeout', 'refused-address'])

/** The agent's credentials; the address family that answered is remembered for the process. */
export class PodIdentityAgent {
  readonly #environment: AwsEnvironment
  #answered: AddressFamily | undefined

  constructor(environment: AwsEnvironment) {
    this.#environment = environment
  }

  async credentials(
    host: Host,
    token: string,
    wanted: AddressFamily | 'auto',
  ): Promise<TemporaryCredentials> {
    const first = wanted === 'auto' ? (this.#answered ?? 'ipv4') : wanted
    const second = wanted === 'auto' ? (first === 'ipv4' ? 'ipv6' : 'ipv4') : undefined
    try {
      return await this.#from(first, token, host)
    } catch (error) {
      const lost = error instanceof AwsFailure && NO_CONNECTION.has(error.awsCode)
      if (second === undefined || !lost || host.signal.aborted) throw error
      host.log.debug('Pod Identity agent does not answer, trying its other address', { family: first })
      return await this.#from(second, token, host)
    }
  }

  async #from(family: AddressFamily, token: string, host: Host): Promise<TemporaryCredentials> {
    let reply: HttpResponse
    try {
      reply = await host.http.send({
        method: 'GET',
        url: this.#environment.podIdentityUrls[family],
        headers: { authorization: token, accept: 'application/json' },
        to: { origin: 'operator' },
        signal: host.signal,
        timeoutMs: this.#environment.podIdentityTimeoutMs,
        maxBytes: 64 * 1024,
      })
    } catch (error) {
      if (!(error instanceof HttpError)) throw error
      const { kind, awsCode, code } = failureOf(error, true)
      throw new AwsFailure({ kind, awsCode, code, message: `Pod Identity agent: ${error.message}` })
    }
    this.#answered = family
    let body: unknown
    try {
      body = JSON.parse(reply.body.toString())
    } catch {
      body = undefined
    }
    if (reply.status !== 200) throw agentRefusal(reply.status, body)
    const parsed = v.safeParse(agentReply, body)
    return completeCredentials(
      parsed.success
        ? {
            AccessKeyId: parsed.output.AccessKeyId,
            SecretAccessKey: parsed.output.SecretAccessKey,
            SessionToken: parsed.output.Token,
            Expiration: new Date(parsed.output.Expiration),
          }
        : undefined,
    )
  }
}

function agentRefusal(status: number, body: unknown): AwsFailure {
  const parsed = v.safeParse(
    v.object({ code: v.optional(v.string()), message: v.optional(v.string()) }),
    body,
  )
  const { code = `HTTP ${status}`, message = '' } = parsed.success ? parsed.output : {}
  const known = refusal(code.replaceAll(' ', '-'), message, { status, auth: true })
  const retryable = status === 429 || status >= 500
  return new AwsFailure({
    kind: retryable ? known.kind : 'unauthenticated',
    // A 4xx of the agent is final, whatever it says (aws.md section 7).
    final: !retryable,
    awsCode: known.awsCode,
    code: known.code === 'AWS_THROTTLED' ? 'AWS_THROTTLED' : 'AWS_AUTH',
    message: `Pod Identity agent: ${known.message}`,
  })
}
