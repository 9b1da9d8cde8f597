/** Owns the metadata server of the fake Google. */
import type { Call } from './fake-google.ts'
import type { FakeIdentity } from './fake-identity.ts'
import type { Reply } from './fake-reply.ts'

const FLAVOR = { 'metadata-flavor': 'Google' }

export class FakeMetadata {
  readonly #identity: FakeIdentity
  /** Whom the node's own token belongs to. */
  node = 'serviceAccount:node@acme-prod.iam.gserviceaccount.com'
  /** Answers by path below `/computeMetadata/v1/`. */
  readonly values = new Map([
    ['project/project-id', 'acme-prod'],
    ['instance/attributes/cluster-location', 'europe-west3'],
    ['instance/attributes/cluster-name', 'c1'],
    ['instance/service-accounts/default/email', 'node@acme-prod.iam.gserviceaccount.com'],
    ['instance', ''],
    ['universe/universe-domain', 'googleapis.com'],
  ])

  constructor(identity: FakeIdentity) {
    this.#identity = identity
  }

  answer(call: Call, path: string): Reply {
    if (call.headers['metadata-flavor'] !== 'Google')
      return { status: 403, body: 'Missing Metadata-Flavor:Google header.', headers: FLAVOR }
    const below = path.slice('/computeMetadata/v1/'.length).replace(/\/$/, '')
    if (below === 'instance/service-accounts/default/token')
      return {
        status: 200,
        body: {
          access_token: this.#identity.issue(this.node),
          expires_in: this.#identity.lifetime,
          token_type: 'Bearer',
        },
        headers: FLAVOR,
      }
    const value = this.values.get(below)
    if (value === undefined) return { status: 404, body: 'not found', headers: FLAVOR }
    return { status: 200, body: value, headers: { ...FLAVOR, 'content-type': 'application/text' } }
  }
}
