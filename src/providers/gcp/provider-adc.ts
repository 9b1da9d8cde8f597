/** Owns `provider-adc`: the provider's own Application Default Credentials (gcp.md section 10.3). */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { Host, OpenedSession } from '../adapter.ts'
import { BackendError } from '../adapter.ts'
import { members, text } from './api.ts'
import { impersonatedEmail, keySession } from './key-json.ts'
import { authFailure, failedStep, opened, SCOPE } from './login.ts'
import type { GcpSession } from './login.ts'
import { isEndpoint, KEY_TYPES } from './settings.ts'
import type { GcpEnvironment } from './settings.ts'
import { exchangeToken, impersonated } from './workload-identity.ts'
import { metadata } from './workload-pool.ts'

const MEMBER = 'the provider’s own Google identity'

/** Opens a session: the configured file, else gcloud's own file, else the metadata server. @throws BackendError */
export async function providerSession(
  environment: GcpEnvironment,
  host: Host,
): Promise<OpenedSession<GcpSession>> {
  const file = environment.credentialsFile ?? gcloudFile(environment.context.env)
  return file === undefined ? metadataSession(environment, host) : fileSession(environment, file, host)
}

function gcloudFile(env: Readonly<Record<string, string | undefined>>): string | undefined {
  const home = env['HOME']
  const file = home && join(home, '.config/gcloud/application_default_credentials.json')
  return file && existsSync(file) ? file : undefined
}

async function metadataSession(environment: GcpEnvironment, host: Host): Promise<OpenedSession<GcpSession>> {
  try {
    const reply = await metadata(
      environment,
      `instance/service-accounts/default/token?scopes=${encodeURIComponent(SCOPE)}`,
      environment.requestTimeoutMs,
    )
    const body = members(JSON.parse(reply))
    const token = text(body?.get('access_token'))
    const seconds = Number(body?.get('expires_in'))
    if (!/^[\x21-\x7e]+$/.test(token) || !Number.isFinite(seconds)) throw new SyntaxError('no token')
    return opened(
      SecretBytes.copyOf(token),
      MEMBER,
      new Date(host.now().getTime() + seconds * 1000),
      host.now(),
    )
  } catch (error) {
    if (error instanceof BackendError)
      throw failedStep(
        'provider-adc: GOOGLE_APPLICATION_CREDENTIALS is not set, and the metadata server was asked',
        error,
        'Give the provider credentials, or use auth: pod-adc.',
      )
    throw authFailure('GCP_METADATA', 'provider-adc: the metadata server gave no token')
  }
}

/** Keys are ours to use; the many kinds of external accounts are left to Google's library. */
async function fileSession(
  environment: GcpEnvironment,
  file: string,
  host: Host,
): Promise<OpenedSession<GcpSession>> {
  const document = await readFile(file).catch(() => {
    throw authFailure('GCP_PROVIDER_ADC', `provider-adc: ${file} cannot be read`, REMEDY)
  })
  const external = externalAccount(document)
  if (external !== undefined) return externalSession(environment, file, external, host)
  const source = {
    document: SecretBytes.copyOf(document),
    types: new Set(KEY_TYPES),
    name: `provider-adc: ${file}`,
  }
  return keySession(environment, source, host)
}

const REMEDY = 'Check the file on the provider, and that its addresses can be reached.'

function externalAccount(document: Buffer): ReadonlyMap<string, unknown> | undefined {
  try {
    const parsed = members(JSON.parse(document.toString()))
    return parsed?.get('type') === 'external_account' ? parsed : undefined
  } catch {
    return undefined
  }
}

/** The library fetches the subject token; exchange and impersonation take our own way out. */
async function externalSession(
  environment: GcpEnvironment,
  file: string,
  document: ReadonlyMap<string, unknown>,
  host: Host,
): Promise<OpenedSession<GcpSession>> {
  const name = `provider-adc: ${file}`
  const endpoint = text(document.get('token_url'))
  const target = text(document.get('service_account_impersonation_url'))
  const email = target === '' ? undefined : impersonatedEmail(target)
  if (!isEndpoint(endpoint) || (target !== '' && email === undefined))
    throw authFailure(
      'GCP_PROVIDER_ADC',
      `${name}: its token_url or impersonation URL is none of Google’s`,
      REMEDY,
    )
  const subject = await subjectToken(environment, name, document)
  const request = {
    endpoint,
    audience: text(document.get('audience')),
    subject,
    subjectType: text(document.get('subject_token_type')),
  }
  try {
    const { token, expiresAt } = await exchangeToken(environment, request, host.now())
    if (email === undefined) return opened(token, MEMBER, expiresAt, host.now())
    return await impersonated(environment, { email, delegates: [] }, token, host, MEMBER)
  } catch (error) {
    throw failedStep(name, error, REMEDY)
  }
}

/** Loaded when a node first needs it: it knows files, URLs, programs and AWS as sources. */
async function subjectToken(
  environment: GcpEnvironment,
  name: string,
  document: ReadonlyMap<string, unknown>,
): Promise<string> {
  // The bundle gives a CommonJS package's exports under `default` only.
  const { default: google } = await import('google-auth-library')
  const { AwsClient, IdentityPoolClient, PluggableAuthClient } = google
  // Sources are beside the provider, where no proxy leads.
  const agents = environment.context.http.agents(environment.direct)
  const options = {
    ...Object.fromEntries(document),
    transporterOptions: {
      agent: (url: URL) => (url.protocol === 'https:' ? agents.https : agents.http),
      timeout: environment.requestTimeoutMs,
    },
  }
  const source = members(document.get('credential_source'))
  try {
    const client = source?.has('environment_id')
      ? new AwsClient(options as ConstructorParameters<typeof AwsClient>[0])
      : source?.has('executable')
        ? new PluggableAuthClient(options as ConstructorParameters<typeof PluggableAuthClient>[0])
        : new IdentityPoolClient(options as ConstructorParameters<typeof IdentityPoolClient>[0])
    return (await client.retrieveSubjectToken()).trim()
  } catch {
    // The library's messages may quote the file or a reply.
    throw authFailure('GCP_PROVIDER_ADC', `${name}: its credential_source gives no subject token`, REMEDY)
  }
}
