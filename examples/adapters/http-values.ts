/**
 * The worked example of docs/adapters.md: secrets from an in-house HTTP service that answers
 * `GET <url>/<key>` with the value, takes the pod's own token, and names versions in `ETag`.
 */
import {
  BackendError,
  PlanError,
  SecretBytes,
  type Adapter,
  type ErrorKind,
  type Host,
  type Value,
} from 'keyferry/adapter'
import * as v from 'valibot'

/** `backends.http-values` of the configuration: an operator's word, so a private address is fine. */
const Settings = v.strictObject({
  url: v.pipe(v.string(), v.url()),
  audience: v.optional(v.string(), 'http-values'),
})
type Settings = v.InferOutput<typeof Settings>

const KIND_OF_STATUS: Readonly<Record<number, ErrorKind>> = {
  401: 'unauthenticated',
  403: 'denied',
  404: 'not-found',
  410: 'gone',
  429: 'throttled',
}

async function fetchValue(
  { url, audience }: Settings,
  key: string,
  host: Host,
): Promise<Value | BackendError> {
  const { token } = await host.token(audience)
  const reply = await host.http.send({
    method: 'GET',
    url: `${url}/${encodeURIComponent(key)}`,
    headers: { authorization: `Bearer ${token.reveal().toString()}` },
    to: { origin: 'operator' },
    signal: host.signal,
  })
  if (reply.status === 200)
    return { bytes: SecretBytes.copyOf(reply.body), version: reply.headers['etag'] ?? '' }
  const waitSeconds = Number(reply.headers['retry-after'])
  return new BackendError({
    kind: KIND_OF_STATUS[reply.status] ?? (reply.status >= 500 ? 'unavailable' : 'malformed'),
    code: 'HTTP_VALUES_FAILED',
    message: `the service answered HTTP ${reply.status}`,
    remedy: 'Check the key and that this service account may read it',
    // The host does not call before that again.
    ...(waitSeconds > 0 && { retryAfterMs: waitSeconds * 1000 }),
  })
}

export const adapter: Adapter = {
  backends: [
    {
      kind: 'http-values',
      settingsSchema: Settings,
      create({ settings }) {
        const known = v.parse(Settings, settings)
        return {
          kind: 'http-values',
          storeSchema: v.strictObject({}),
          ref: ({ key }) => key,
          refKey: (key) => String(key),
          resolve: (_store, keys, host) =>
            Promise.all(keys.map((key) => fetchValue(known, String(key), host))),
        }
      },
    },
  ],
  dialects: [
    {
      name: 'http-values',
      needs: { audiences: ['http-values'] },
      plan({ parameters, defaultMode }) {
        const keys =
          parameters
            .get('keys')
            ?.split(/[ ,\n]+/)
            .filter(Boolean) ?? []
        if (keys.length === 0)
          throw new PlanError([{ code: 'HTTP_VALUES_NO_KEYS', message: 'parameter keys names none' }])
        const source = { backend: 'http-values', store: {}, identity: 'pod' } as const
        return {
          outputs: keys.map((key) => ({
            kind: 'file',
            path: key,
            object: key,
            mode: defaultMode,
            source: { ...source, ref: key },
          })),
        }
      },
    },
  ],
}
