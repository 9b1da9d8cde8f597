/**
 * Owns a scripted AWS on loopback: Secrets Manager, Parameter Store, KMS, STS and the Pod Identity
 * agent behind one port. It verifies signatures, tokens and roles, records every call, and breaks on
 * demand. Its endpoint is `<url>/{region}`, so that STS calls tell their region too.
 */
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { FakeIdentity, IdentityRefusal } from './fake-identity.ts'
import type { IssuedKey, SignedRequest } from './fake-sigv4.ts'
import { SignatureRefusal, verifySignature } from './fake-sigv4.ts'
import { FakeRegion, ServiceRefusal } from './fake-stores.ts'

export interface RecordedCall {
  readonly service: 'secretsmanager' | 'ssm' | 'kms' | 'sts' | 'pod-identity'
  readonly action: string
  readonly region: string
  /** What was asked: JSON body or form fields. Tokens included: this is the fake's side. */
  readonly input: Readonly<Record<string, unknown>>
  readonly headers: Readonly<Record<string, string>>
  /** Role whose credentials signed the call. */
  readonly role: string | undefined
  /** Milliseconds since the fake started. */
  readonly at: number
}

/** What goes wrong for calls that `when` picks. */
export interface Fault {
  readonly when: (call: Omit<RecordedCall, 'at'>) => boolean
  /** How often; default: always. */
  times?: number
  readonly delayMs?: number
  /** Answer with this error code (and status, default 400). */
  readonly code?: string
  readonly message?: string
  readonly status?: number
  /** Answer with exactly this. */
  readonly raw?: { readonly status: number; readonly type: string; readonly body: string | Buffer }
  /** Cut the connection without an answer. */
  readonly reset?: boolean
  /** Changes a good answer, e.g. removes its VersionId. */
  readonly edit?: (answer: Record<string, unknown>) => unknown
}

const TARGETS: Readonly<Record<string, RecordedCall['service']>> = {
  secretsmanager: 'secretsmanager',
  AmazonSSM: 'ssm',
  TrentService: 'kms',
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

const xml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

export class FakeAws {
  readonly identity = new FakeIdentity()
  readonly regions = new Map<string, FakeRegion>()
  readonly calls: RecordedCall[] = []
  readonly faults: Fault[] = []
  /** Time the fake takes for every answer. */
  latencyMs = 0
  /** How far the fake's clock is ahead of this machine's. */
  clockOffsetMs = 0
  /** Most calls that were in progress at once, per service. */
  readonly peak = new Map<string, number>()
  /** Connections opened so far. */
  connections = 0
  readonly #inFlight = new Map<string, number>()
  readonly #started = Date.now()
  readonly #sockets = new Set<Socket>()
  readonly #server = this.#newServer()
  /** The same AWS on the IPv6 loopback address. */
  readonly #server6 = this.#newServer()

  #newServer(): Server {
    const server = createServer((request, response) => {
      this.#handle(request, response).catch(() => response.destroy())
    })
    server.on('connection', (socket) => {
      this.connections += 1
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket))
    })
    return server
  }

  async start(): Promise<this> {
    this.#server.listen(0, '127.0.0.1')
    this.#server6.listen(0, '::1')
    await Promise.all([once(this.#server, 'listening'), once(this.#server6, 'listening')])
    return this
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    const closed = [once(this.#server, 'close'), once(this.#server6, 'close')]
    this.#server.close()
    this.#server6.close()
    await Promise.all(closed)
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** Endpoint template for the backends' settings. */
  get endpoint(): string {
    return `${this.url}/{region}`
  }

  get podIdentityUrl(): string {
    return `${this.url}/v1/credentials`
  }

  /** The agent's address on IPv6. */
  get podIdentityUrl6(): string {
    return `http://[::1]:${(this.#server6.address() as AddressInfo).port}/v1/credentials`
  }

  region(name: string): FakeRegion {
    let region = this.regions.get(name)
    if (region === undefined) {
      region = new FakeRegion(name)
      this.regions.set(name, region)
    }
    return region
  }

  /** Calls of one service, in the order they arrived. */
  callsTo(service: RecordedCall['service'], region?: string): RecordedCall[] {
    return this.calls.filter((c) => c.service === service && (region === undefined || c.region === region))
  }

  /** Forgets calls and faults, keeps the data. */
  reset(): void {
    this.calls.length = 0
    this.faults.length = 0
    this.peak.clear()
    this.latencyMs = 0
    this.clockOffsetMs = 0
  }

  get #now(): number {
    return Date.now() + this.clockOffsetMs
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await bodyOf(request)
    const headers: Record<string, string> = {}
    for (const [name, value] of Object.entries(request.headers)) headers[name] = String(value)
    const signed: SignedRequest = {
      method: request.method ?? '',
      url: request.url ?? '/',
      headers,
      body,
    }
    if (request.url === '/v1/credentials') return this.#podIdentity(signed, response)
    const region = (request.url ?? '').split('/')[1] ?? ''
    const target = headers['x-amz-target']
    if (target !== undefined) return this.#json(signed, region, target, response)
    return this.#sts(signed, region, response)
  }

  /** Records a call and plays the first fault that wants it. @returns whether the answer was given. */
  async #record(
    call: Omit<RecordedCall, 'at'>,
    response: ServerResponse,
    wireError: (status: number, code: string, message: string) => void,
  ): Promise<Fault | 'answered' | undefined> {
    this.calls.push({ ...call, at: Date.now() - this.#started })
    const busy = (this.#inFlight.get(call.service) ?? 0) + 1
    this.#inFlight.set(call.service, busy)
    this.peak.set(call.service, Math.max(busy, this.peak.get(call.service) ?? 0))
    response.on('close', () => this.#inFlight.set(call.service, (this.#inFlight.get(call.service) ?? 1) - 1))
    if (this.latencyMs > 0) await sleep(this.latencyMs)
    const fault = this.faults.find((f) => (f.times === undefined || f.times > 0) && f.when(call))
    if (fault === undefined) return undefined
    if (fault.times !== undefined) fault.times -= 1
    if (fault.delayMs !== undefined) await sleep(fault.delayMs, undefined, { ref: false })
    if (fault.reset) response.destroy()
    else if (fault.raw !== undefined)
      response.writeHead(fault.raw.status, { 'content-type': fault.raw.type }).end(fault.raw.body)
    else if (fault.code !== undefined)
      wireError(fault.status ?? 400, fault.code, fault.message ?? `${fault.code} on demand`)
    else return fault
    return 'answered'
  }

  async #json(
    signed: SignedRequest,
    region: string,
    target: string,
    response: ServerResponse,
  ): Promise<void> {
    const [prefix = '', action = ''] = target.split('.')
    const service = TARGETS[prefix] ?? 'ssm'
    const answer = (status: number, value: unknown): void => {
      const text = Buffer.from(JSON.stringify(value))
      response
        .writeHead(status, {
          'content-type': 'application/x-amz-json-1.1',
          'content-length': text.length,
          'x-amzn-requestid': `request-${this.calls.length}`,
          date: new Date(this.#now).toUTCString(),
        })
        .end(text)
    }
    const refuse = (status: number, code: string, message: string): void =>
      answer(status, { __type: `com.amazonaws.${service}#${code}`, message })
    let key: IssuedKey | undefined
    let refusal: SignatureRefusal | undefined
    try {
      const verified = verifySignature(signed, this.identity.keys, this.#now)
      key = verified.key
      if (verified.region !== region || verified.service !== service)
        refusal = new SignatureRefusal(
          'InvalidSignatureException',
          'Credential should be scoped to this region and service',
        )
    } catch (error) {
      if (!(error instanceof SignatureRefusal)) throw error
      refusal = error
    }
    const input = JSON.parse(signed.body.toString()) as Record<string, unknown>
    const call = { service, action, region, input, headers: signed.headers, role: key?.roleArn }
    const fault = await this.#record(call, response, refuse)
    if (fault === 'answered') return undefined
    if (refusal !== undefined) return refuse(400, refusal.code, refusal.message)
    const role = this.identity.roles.get(key?.roleArn ?? '')
    const authorize = (permission: string, resource: string): void => {
      if (role?.allows !== undefined && !role.allows(permission, resource))
        throw new ServiceRefusal(
          'AccessDeniedException',
          `User: ${key?.roleArn} is not authorized to perform: ${permission} on resource: ${resource}`,
        )
    }
    try {
      const result = this.#operation(action, this.region(region), input, authorize)
      return answer(200, fault?.edit === undefined ? result : fault.edit(result))
    } catch (error) {
      if (error instanceof ServiceRefusal) return refuse(error.status, error.type, error.message)
      throw error
    }
  }

  #operation(
    action: string,
    region: FakeRegion,
    input: Record<string, unknown>,
    authorize: (permission: string, resource: string) => void,
  ): Record<string, unknown> {
    switch (action) {
      case 'GetSecretValue':
        return region.getSecretValue(input, authorize)
      case 'DescribeSecret':
        return region.describeSecret(input, authorize)
      case 'BatchGetSecretValue':
        return region.batchGetSecretValue(input, authorize)
      case 'GetParameters':
        return region.getParameters(input, authorize)
      case 'GetParametersByPath':
        return region.getParametersByPath(input, authorize)
      case 'Decrypt':
        return region.decrypt(input, authorize)
      default:
        throw new ServiceRefusal('UnknownOperationException', action)
    }
  }

  async #sts(signed: SignedRequest, region: string, response: ServerResponse): Promise<void> {
    const form = new URLSearchParams(signed.body.toString())
    const action = form.get('Action') ?? ''
    const refuse = (status: number, code: string, message: string): void => {
      const fault = status >= 500 ? 'Receiver' : 'Sender'
      response
        .writeHead(status, { 'content-type': 'text/xml', date: new Date(this.#now).toUTCString() })
        .end(
          `<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>${fault}</Type><Code>${code}</Code><Message>${xml(message)}</Message></Error><RequestId>request-${this.calls.length}</RequestId></ErrorResponse>`,
        )
    }
    let caller: IssuedKey | undefined
    let refusal: SignatureRefusal | undefined
    if (signed.headers['authorization'] !== undefined || action !== 'AssumeRoleWithWebIdentity')
      try {
        caller = verifySignature(signed, this.identity.keys, this.#now).key
      } catch (error) {
        if (!(error instanceof SignatureRefusal)) throw error
        refusal = error
      }
    const input = Object.fromEntries(form)
    const call = {
      service: 'sts' as const,
      action,
      region,
      input,
      headers: signed.headers,
      role: caller?.roleArn,
    }
    if ((await this.#record(call, response, refuse)) === 'answered') return
    try {
      if (refusal !== undefined) throw new IdentityRefusal(refusal.code, refusal.message, 403)
      const key =
        action === 'AssumeRoleWithWebIdentity'
          ? this.identity.assumeWithWebIdentity(form, this.#now)
          : action === 'AssumeRole' && caller !== undefined
            ? this.identity.assumeRole(form, caller, this.#now)
            : undefined
      if (key === undefined) throw new IdentityRefusal('InvalidAction', `Could not find operation ${action}`)
      response
        .writeHead(200, { 'content-type': 'text/xml' })
        .end(
          `<${action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><${action}Result>` +
            `<AssumedRoleUser><Arn>${key.roleArn}/${key.sessionName}</Arn><AssumedRoleId>AROA:${key.sessionName}</AssumedRoleId></AssumedRoleUser>` +
            `<Credentials><AccessKeyId>${key.accessKeyId}</AccessKeyId><SecretAccessKey>${key.secretAccessKey}</SecretAccessKey>` +
            `<SessionToken>${key.sessionToken}</SessionToken><Expiration>${new Date(key.expiresAt).toISOString()}</Expiration></Credentials>` +
            `</${action}Result><ResponseMetadata><RequestId>request-${this.calls.length}</RequestId></ResponseMetadata></${action}Response>`,
        )
    } catch (error) {
      if (!(error instanceof IdentityRefusal)) throw error
      refuse(error.status, error.code, error.message)
    }
  }

  async #podIdentity(signed: SignedRequest, response: ServerResponse): Promise<void> {
    const refuse = (status: number, code: string, message: string): void => {
      response
        .writeHead(status, { 'content-type': 'application/json' })
        .end(JSON.stringify({ code, message }))
    }
    const call = {
      service: 'pod-identity' as const,
      action: signed.method,
      region: '',
      input: {},
      headers: signed.headers,
      role: undefined,
    }
    if ((await this.#record(call, response, refuse)) === 'answered') return
    try {
      const key = this.identity.podIdentity(signed.headers['authorization'], this.#now)
      response.writeHead(200, { 'content-type': 'application/json' }).end(
        JSON.stringify({
          AccessKeyId: key.accessKeyId,
          SecretAccessKey: key.secretAccessKey,
          Token: key.sessionToken,
          Expiration: new Date(key.expiresAt).toISOString(),
          AccountId: '111122223333',
        }),
      )
    } catch (error) {
      if (!(error instanceof IdentityRefusal)) throw error
      refuse(error.status, error.code, error.message)
    }
  }
}
