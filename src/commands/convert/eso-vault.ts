/** Owns the provider `vault` of a SecretStore: connection, login, and the API path that a key stands for. */
import {
  AS_POD,
  CREDENTIALS_IN_ADDRESS,
  hasCredentials,
  POD_IDENTITY,
  setting,
  type Provider,
} from './eso-provider.ts'
import type { Field } from './field.ts'

const TLS_FILES = 'Put the PEM file into a directory of backends.vault.tlsDirectories on the nodes'

export function vault(field: Field): Provider | undefined {
  const version = field.get('version')?.text() ?? 'v2'
  if (version !== 'v1' && version !== 'v2')
    return field
      .get('version')
      ?.lost('the version of the KV engine is neither v1 nor v2', 'Name one of the two')
  for (const name of ['caBundle', 'caProvider'])
    field
      .get(name)
      ?.lost('trust anchors cannot stand in a store', `${TLS_FILES}, and set caFile of the store`)
  field
    .get('tls')
    ?.lost(
      'a client certificate is not read from a Kubernetes Secret',
      `${TLS_FILES}, and set clientCertFile and clientKeyFile of the store`,
    )
  field.get('headers')?.lost('further headers are not sent', 'Let a proxy add them, or leave them out')
  for (const name of ['readYourWrites', 'forwardInconsistent'])
    field.get(name)?.changed('Keyferry only reads, and asks again at the next poll', 'Nothing')
  field.get('checkAndSet')?.changed('it is about pushing secrets, and Keyferry only reads', 'Nothing')
  const namespace = setting(field.get('namespace'), 'namespace')
  const mount = field.get('path')?.text()?.replace(/\/$/, '')
  return {
    definition: {
      backend: 'vault',
      identity: 'pod',
      settings: {
        ...addressOf(field.get('server')),
        ...namespace,
        ...vaultLogin(field, namespace['namespace'] ?? ''),
      },
    },
    keyOf: (_field, key) => vaultPath(key, mount || undefined, version),
  }
}

function addressOf(server: Field | undefined): Record<string, string> {
  if (!hasCredentials(server?.text() ?? '')) return setting(server, 'address')
  server?.lost(...CREDENTIALS_IN_ADDRESS)
  return {}
}

/** Role, auth mount and audience, for the two methods that take the pod's token. */
function vaultLogin(provider: Field, namespace: string): Record<string, string> {
  const auth = provider.get('auth')
  const loginNamespace = auth?.get('namespace')
  if (loginNamespace !== undefined && loginNamespace.text() !== namespace)
    loginNamespace.lost(
      'the namespace to log in to cannot differ from that of the secrets',
      'Mount the auth method in the namespace of the secrets',
    )
  const kubernetes = auth?.get('kubernetes')
  const jwt = auth?.get('jwt')
  const method = kubernetes ?? jwt
  for (const [name, other] of auth?.entries() ?? []) {
    if (name === 'namespace' || other.path === method?.path) continue
    other.lost(
      AS_POD,
      "Set role and authMount of the store to a Kubernetes or JWT auth mount for the pods' service accounts",
    )
  }
  if (method === undefined) {
    if (auth === undefined)
      provider.note('lost', 'no way to log in is named', 'Set role and authMount of the store')
    return {}
  }
  method.get('secretRef')?.lost(AS_POD, POD_IDENTITY)
  const token = method.get('kubernetesServiceAccountToken')
  token
    ?.get('expirationSeconds')
    ?.changed(
      'tokens live as long as the driver asks for',
      'Set expirationSeconds in tokenRequests of the driver',
    )
  const account = method.get('serviceAccountRef') ?? token?.get('serviceAccountRef')
  const wanted = [token?.get('audiences'), account?.get('audiences')].flatMap((list) => list?.items() ?? [])
  const [audience, ...more] = wanted
  for (const one of more)
    one.lost('a store asks for a token of one audience', 'Check that the role takes the first one')
  account?.changed('this service account does not log in', `${POD_IDENTITY}; bind the role to it`)
  return {
    ...setting(method.get('role'), 'role'),
    ...setting(method.get(method === kubernetes ? 'mountPath' : 'path'), 'authMount'),
    ...(method === jwt && method.get('path') === undefined && { authMount: 'jwt' }),
    ...setting(audience, 'audience'),
  }
}

/** The API path that the operator makes of a key: mount and, for KV v2, `data` are added where they are missing. */
export function vaultPath(key: string, mount: string | undefined, version: 'v1' | 'v2'): string {
  if (mount === undefined) {
    if (version === 'v1' || key.includes('/data/')) return key
    const [first = '', ...rest] = key.split('/')
    return [first, 'data', ...rest].join('/')
  }
  let inner = key.startsWith(`${mount}/`) ? key.slice(mount.length + 1) : key
  if (inner !== key && version === 'v2' && inner.startsWith('data/')) inner = inner.slice('data/'.length)
  return [mount, ...(version === 'v2' ? ['data'] : []), inner].join('/')
}
