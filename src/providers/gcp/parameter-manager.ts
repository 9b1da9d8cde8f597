/** Owns the backend `gcp-parameter-manager`: RenderParameterVersion over REST (gcp.md section 6). */
import * as v from 'valibot'
import type { Backend, BackendContext } from '../adapter.ts'
import { membersOf, refusal, send, text } from './api.ts'
import { credentialsOf } from './credentials.ts'
import { baseUrl, bytesOf, fetchRefs, malformed, versionOf } from './fetching.ts'
import type { FetchResource } from './fetching.ts'
import { PARAMETER_MANAGER, refOf, refOfItem, resourceOf } from './resources.ts'
import type { GcpRef, Resource } from './resources.ts'
import { gcpEnvironment, settingsSchema, storeSchema } from './settings.ts'
import type { GcpStore } from './settings.ts'

export function parameterManagerBackend(context: BackendContext): Backend {
  const environment = gcpEnvironment(context)
  const settings = v.parse(settingsSchema, context.settings)
  const credentials = credentialsOf(environment)
  const urlOf = (resource: Resource): string =>
    `${baseUrl('parametermanager', resource, settings)}/v1/${resource.name}:render`

  const fetch: FetchResource = async (resource, session, host) => {
    const reply = await send(environment, {
      kind: 'parametermanager_render_parameter_version_requests',
      url: urlOf(resource),
      headers: { authorization: `Bearer ${session.token.reveal().toString()}` },
      signal: host.signal,
      turn: host.pod.namespace,
    })
    if (reply.status !== 200)
      throw refusal(reply, {
        denied: `Grant roles/parametermanager.parameterAccessor to ${session.member}, and roles/secretmanager.secretAccessor on each referenced secret to the parameter's own principal.`,
        unauthenticated: `Google does not accept the token of ${session.member}; check that the account is enabled.`,
      })
    const body = membersOf(reply)
    reply.body.fill(0)
    if (body === undefined) throw malformed('it is not a JSON object')
    // Without references Google's provider takes what is rendered too, even if that is nothing.
    return {
      bytes: bytesOf(text(body.get('renderedPayload'))),
      version: versionOf(text(body.get('parameterVersion'))),
    }
  }

  return {
    kind: PARAMETER_MANAGER,
    storeSchema,
    ref: (item) => refOfItem(item, 'parameters'),
    refKey: (ref) => JSON.stringify(Object.values(refOf(ref))),
    keys: (store, ref) => [resourceOf(store as GcpStore, refOf(ref), 'parameter').name],
    resolve: (store, refs, host) =>
      fetchRefs({ kind: 'parameter', credentials, fetch }, store as GcpStore, refs.map<GcpRef>(refOf), host),
  }
}
