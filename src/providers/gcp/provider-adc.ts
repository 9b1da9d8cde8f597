/** Owns `provider-adc`: the provider's own Application Default Credentials (gcp.md section 10.3). */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { SecretBytes } from '../../telemetry/secret-bytes.ts'
import type { Host, OpenedSession } from '../adapter.ts'
import { BackendError } from '../adapter.ts'
import { members, text } from './api.ts'
import { authFailure, failedStep, opened, SCOPE } from './login.ts'
import type { GcpSession } from './login.ts'
import type { GcpEnvironment } from './settings.ts'
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

/** Google's library knows every kind of file; it is loaded when a node first needs it. */
async function fileSession(
  environment: GcpEnvironment,
  file: string,
  host: Host,
): Promise<OpenedSession<GcpSession>> {
  const { GoogleAuth } = await import('google-auth-library')
  const agents = environment.context.http.agents(environment.to)
  const agent = (url: URL) => (url.protocol === 'https:' ? agents.https : agents.http)
  try {
    const auth = new GoogleAuth({
      keyFilename: file,
      scopes: [SCOPE],
      clientOptions: { transporterOptions: { agent, timeout: environment.requestTimeoutMs } },
    })
    const client = await auth.getClient()
    const { token } = await client.getAccessToken()
    if (!token) throw new Error('no token')
    const expiry = client.credentials.expiry_date ?? host.now().getTime() + 600_000
    return opened(SecretBytes.copyOf(token), MEMBER, new Date(expiry), host.now())
  } catch (error) {
    // The library's messages may quote the file or a reply.
    const status = statusOf(error)
    throw authFailure(
      'GCP_PROVIDER_ADC',
      `provider-adc: the credentials in ${file} gave no token${status === undefined ? '' : ` (HTTP ${status})`}`,
      'Check the file on the provider, and that its addresses can be reached.',
      status !== undefined && status >= 500 ? { kind: 'unavailable' } : {},
    )
  }
}

function statusOf(error: unknown): number | undefined {
  const status: unknown = error instanceof Error && 'status' in error ? error.status : undefined
  return typeof status === 'number' ? status : undefined
}
