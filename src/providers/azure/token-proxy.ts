/** Owns AKS identity binding's way to Entra ID: through the cluster's token proxy, under a TLS name of its own (azure section 7). */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { connect } from 'node:tls'
import type { PeerCertificate } from 'node:tls'
import type { TokenRoute } from './entra.ts'
import { azureError } from './failures.ts'
import type { AzureEnvironment, TokenProxySettings } from './settings.ts'

const BASE32HEX = '0123456789abcdefghijklmnopqrstuv'

/** RFC 4648 base32hex, lower case, without padding. */
function base32hex(bytes: Uint8Array): string {
  let text = ''
  let bits = 0
  let held = 0
  for (const byte of bytes) {
    held = ((held << 8) | byte) & 0xffff
    bits += 8
    while (bits >= 5) {
      bits -= 5
      text += BASE32HEX.charAt((held >> bits) & 31)
    }
  }
  return bits === 0 ? text : text + BASE32HEX.charAt((held << (5 - bits)) & 31)
}

/** The proxy's TLS name in the cluster with this id. */
export function sniOfCluster(id: string): string {
  return `a${base32hex(createHash('sha256').update(`identity-binding${id}`).digest())}.ests.aks`
}

/** The cluster's id from the names in the API server's certificate. */
export function clusterIdOf(certificate: PeerCertificate): string | undefined {
  for (const entry of (certificate.subjectaltname ?? '').split(', ')) {
    const id = /^DNS:hcp-kubernetes\.([A-Za-z0-9-]{1,63})\.svc\.cluster\.local$/.exec(entry)?.[1]
    if (id !== undefined) return id
  }
  return undefined
}

function unavailable(reason: string): Error {
  return azureError({
    kind: 'unavailable',
    code: 'AZURE_UNREACHABLE',
    message: `proxy transport not available: ${reason}`,
    remedy: 'Check that the cluster has identity binding, or set backends.azure-key-vault.tokenProxy.',
  })
}

/** Gives routes through the proxy. The TLS name is found once; a failure is not remembered. */
export type ProxyRouter = (endpoint: string) => Promise<TokenRoute>

export function proxyRouter(environment: AzureEnvironment): ProxyRouter {
  const settings = environment.tokenProxy
  let name: Promise<string> | undefined
  const sniName = (ca: string | undefined): Promise<string> => {
    if (settings.sniName !== undefined) return Promise.resolve(settings.sniName)
    name ??= discoveredName(settings, ca, environment.requestTimeoutMs)
    name.catch(() => (name = undefined))
    return name
  }
  return async (endpoint) => {
    const ca = caOf(settings)
    const serverName = await sniName(ca)
    const target = new URL(endpoint)
    const proxy = new URL(settings.url)
    proxy.pathname = proxy.pathname.replace(/\/$/, '') + target.pathname
    proxy.search = target.search
    return {
      url: proxy.href,
      to: { origin: 'operator', tls: { serverName, ...(ca === undefined ? {} : { ca: [ca] }) } },
      headers: { host: target.host },
      timeoutMs: environment.requestTimeoutMs,
    }
  }
}

function caOf(settings: TokenProxySettings): string | undefined {
  try {
    return readFileSync(settings.caFile, 'utf8')
  } catch {
    return undefined
  }
}

function discoveredName(
  settings: TokenProxySettings,
  ca: string | undefined,
  timeoutMs: number,
): Promise<string> {
  const { hostname, port } = new URL(settings.apiServer)
  const host = hostname.replace(/^\[|\]$/g, '')
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port: Number(port || 443),
      ...(isIP(host) === 0 ? { servername: host } : {}),
      ...(ca === undefined ? {} : { ca }),
    })
    const fail = (reason: string): void => {
      socket.destroy()
      reject(unavailable(reason))
    }
    socket.setTimeout(timeoutMs, () => fail('the API server did not answer in time'))
    socket.once('error', () => fail('no TLS connection to the API server'))
    socket.once('secureConnect', () => {
      const id = clusterIdOf(socket.getPeerCertificate())
      if (id === undefined)
        return fail("the API server's certificate has no name hcp-kubernetes.<id>.svc.cluster.local")
      socket.destroy()
      return resolve(sniOfCluster(id))
    })
  })
}
