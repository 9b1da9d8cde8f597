/** Owns Secret Manager and Parameter Manager of the fake Google. */
import type { Call } from './fake-google.ts'
import type { FakeIdentity } from './fake-identity.ts'
import { apiError, ok } from './fake-reply.ts'
import type { Reply } from './fake-reply.ts'

type State = 'ENABLED' | 'DISABLED' | 'DESTROYED'

interface Version {
  readonly bytes: Buffer
  state: State
}

/** Independent of the code under test: bit by bit. */
export function checksum(bytes: Uint8Array): string {
  let crc = 0xffff_ffff
  for (const byte of bytes) {
    crc ^= byte
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f6_3b78 : 0)
  }
  return String((crc ^ 0xffff_ffff) >>> 0)
}

export class FakeStores {
  readonly #identity: FakeIdentity
  /** Project id → number. */
  readonly projects = new Map([['acme-prod', '8142']])
  readonly #secrets = new Map<string, Version[]>()
  readonly #parameters = new Map<string, { readonly raw: Buffer; readonly rendered: Buffer }>()
  /** Alias → version number, by secret. */
  readonly aliases = new Map<string, Map<string, number>>()

  constructor(identity: FakeIdentity) {
    this.#identity = identity
  }

  /** Adds a version to a secret such as `projects/acme-prod/secrets/db`; every member named may read it. */
  addSecret(name: string, content: string | Buffer, ...members: readonly string[]): void {
    const versions = this.#secrets.get(name) ?? []
    versions.push({ bytes: Buffer.from(content as string), state: 'ENABLED' })
    this.#secrets.set(name, versions)
    for (const member of members) this.#identity.grant(name, member)
  }

  setState(name: string, version: number, state: State): void {
    const found = this.#secrets.get(name)?.[version - 1]
    if (found !== undefined) found.state = state
  }

  addParameter(version: string, rendered: string | Buffer, ...members: readonly string[]): void {
    this.#parameters.set(version, { raw: Buffer.from('__REF__'), rendered: Buffer.from(rendered as string) })
    for (const member of members) this.#identity.grant(version.split('/versions/')[0] ?? '', member)
  }

  answer(route: 'access' | 'render', call: Call, path: string): Reply {
    const name = path.slice('/v1/'.length, path.lastIndexOf(':'))
    const [resource = '', version = ''] = name.split('/versions/')
    const location = /^projects\/[^/]+\/locations\/([^/]+)\//.exec(name)?.[1]
    const wrongHost = hostFault(
      route === 'access' ? 'secretmanager' : 'parametermanager',
      location,
      call.host,
    )
    if (wrongHost) return wrongHost
    const member = this.#identity.member(call)
    if (typeof member !== 'string') return member
    const permission =
      route === 'access' ? 'secretmanager.versions.access' : 'parametermanager.parameterVersions.render'
    if (!this.#identity.bindings.get(resource)?.has(member))
      return apiError(
        403,
        'PERMISSION_DENIED',
        `Permission '${permission}' denied for resource '${name}' (or it may not exist).`,
        'IAM_PERMISSION_DENIED',
      )
    return route === 'access' ? this.#access(resource, version) : this.#render(name)
  }

  #access(resource: string, wanted: string): Reply {
    const versions = this.#secrets.get(resource) ?? []
    const number = this.#numbered(resource)
    const chosen =
      wanted === 'latest' ? versions.length : (this.aliases.get(resource)?.get(wanted) ?? Number(wanted))
    const version = versions[chosen - 1]
    if (version === undefined)
      return apiError(404, 'NOT_FOUND', `Secret [${number}] not found or has no versions.`)
    const name = `${number}/versions/${chosen}`
    if (version.state !== 'ENABLED')
      return apiError(400, 'FAILED_PRECONDITION', `Secret Version [${name}] is in ${version.state} state.`)
    const data = version.bytes.toString('base64')
    return ok({ name, payload: { data, dataCrc32c: checksum(version.bytes) } })
  }

  #render(name: string): Reply {
    const parameter = this.#parameters.get(name)
    if (parameter === undefined) return apiError(404, 'NOT_FOUND', `Resource '${name}' was not found`)
    return ok({
      parameterVersion: name,
      payload: { data: parameter.raw.toString('base64') },
      renderedPayload: parameter.rendered.toString('base64'),
    })
  }

  /** Replies name the project by its number. */
  #numbered(resource: string): string {
    return resource.replace(
      /^projects\/([^/]+)/,
      (_, id: string) => `projects/${this.projects.get(id) ?? id}`,
    )
  }
}

function hostFault(service: string, location: string | undefined, host: string): Reply | undefined {
  if (host.startsWith('127.') || host.startsWith('localhost')) return undefined
  const isGlobal = location === undefined || location === 'global'
  const right = isGlobal ? `${service}.googleapis.com` : `${service}.${location}.rep.googleapis.com`
  return host === right
    ? undefined
    : apiError(400, 'INVALID_ARGUMENT', `the resource is not served at ${host}`, 'LOCATION_MISMATCH')
}
