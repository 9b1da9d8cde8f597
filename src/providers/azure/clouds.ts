/** Owns the clouds of Azure: where each signs in and where its vaults are, custom environments included (azure section 6). */
import { readFileSync, realpathSync, statSync } from 'node:fs'
import { sep } from 'node:path'
import { azureError, jsonOf } from './failures.ts'

export interface Cloud {
  /** Authority host, e.g. `https://login.microsoftonline.com/`; for AD FS it may end in `/adfs`. */
  readonly authority: string
  /** What tokens are for, without a trailing slash, e.g. `https://vault.azure.net`. */
  readonly resource: string
  /** DNS suffix of vaults, e.g. `vault.azure.net`. */
  readonly suffix: string
  /** Audience that federated credentials of this cloud have, besides the general one. */
  readonly audience?: string
}

export const STACK_CLOUD = 'AzureStackCloud'
export const DEFAULT_CLOUD = 'AzurePublicCloud'

const PUBLIC: Cloud = {
  authority: 'https://login.microsoftonline.com/',
  resource: 'https://vault.azure.net',
  suffix: 'vault.azure.net',
}
const US_GOVERNMENT: Cloud = {
  authority: 'https://login.microsoftonline.us/',
  resource: 'https://vault.usgovcloudapi.net',
  suffix: 'vault.usgovcloudapi.net',
  audience: 'api://AzureADTokenExchangeUSGov',
}

const CLOUDS: ReadonlyMap<string, Cloud> = new Map([
  ['AZUREPUBLICCLOUD', PUBLIC],
  ['AZURECLOUD', PUBLIC],
  ['AZUREUSGOVERNMENTCLOUD', US_GOVERNMENT],
  ['AZUREUSGOVERNMENT', US_GOVERNMENT],
  [
    'AZURECHINACLOUD',
    {
      authority: 'https://login.chinacloudapi.cn/',
      resource: 'https://vault.azure.cn',
      suffix: 'vault.azure.cn',
      audience: 'api://AzureADTokenExchangeChina',
    },
  ],
  [
    'AZUREGERMANCLOUD',
    {
      authority: 'https://login.microsoftonline.de/',
      resource: 'https://vault.microsoftazure.de',
      suffix: 'vault.microsoftazure.de',
    },
  ],
])

/** Whether a `cloudName` is one of the names, in any case. */
export const isCloudName = (name: string): boolean => isStackCloud(name) || CLOUDS.has(name.toUpperCase())

/** Whether a `cloudName` means that a file describes the cloud. */
export const isStackCloud = (name: string): boolean => name.toUpperCase() === STACK_CLOUD.toUpperCase()

/** The text for a name that {@link isCloudName} does not know. */
export function noSuchCloud(name: string): string {
  return `cloudName ${name.slice(0, 60)} is not valid, error: autorest/azure: There is no cloud environment matching the name "${name.slice(0, 60).toUpperCase()}"`
}

/** Which environment files may be read. */
export interface EnvironmentFiles {
  /** Directories, the operator's; a file that an SPC names must lie in one of them. */
  readonly directories: readonly string[]
  /** `AZURE_ENVIRONMENT_FILEPATH`. */
  readonly fallback: string | undefined
}

/** Finds clouds by what a store says; remembers environment files until they change. */
export type CloudFinder = (name: string, environmentFile: string | undefined) => Cloud

/** @throws (by the function it gives) BackendError `AZURE_CLOUD`. */
export function cloudFinder(files: EnvironmentFiles): CloudFinder {
  const known = new Map<string, { readonly stamp: string; readonly cloud: Cloud }>()
  const described = (path: string): Cloud => {
    const stat = statSync(path)
    const stamp = `${stat.mtimeMs} ${stat.size} ${stat.ino}`
    const kept = known.get(path)
    if (kept?.stamp === stamp) return kept.cloud
    if (!stat.isFile() || stat.size > MAX_FILE_BYTES) throw cloudFault(`${path} is not a small file`)
    const cloud = parseEnvironment(readFileSync(path), path)
    if (known.size >= MAX_FILES) known.clear()
    known.set(path, { stamp, cloud })
    return cloud
  }
  return (name, environmentFile) => {
    if (!isStackCloud(name)) {
      const cloud = CLOUDS.get(name.toUpperCase())
      if (cloud === undefined) throw cloudFault(noSuchCloud(name))
      return cloud
    }
    if (environmentFile !== undefined) return described(allowedPath(environmentFile, files.directories))
    if (files.fallback !== undefined) return described(readable(files.fallback))
    throw cloudFault(`cloudName ${STACK_CLOUD} is not valid, error: no file describes it`)
  }
}

const MAX_FILE_BYTES = 64 * 1024
const MAX_FILES = 32

function cloudFault(message: string): Error {
  return azureError({
    kind: 'config',
    code: 'AZURE_CLOUD',
    message,
    remedy: 'Check cloudName, and cloudEnvFileName against the environmentDirectories of the configuration.',
  })
}

function readable(path: string): string {
  try {
    return realpathSync(path)
  } catch {
    throw cloudFault(
      `cloudName ${STACK_CLOUD} is not valid, error: open ${path.slice(0, 200)}: no such file or directory`,
    )
  }
}

/** The real path of a file that an SPC names. Outside of the directories it is as if there were none. */
function allowedPath(path: string, directories: readonly string[]): string {
  const real = readable(path)
  const isInside = directories.some((directory) => {
    try {
      return real.startsWith(realpathSync(directory) + sep)
    } catch {
      return false
    }
  })
  if (isInside) return real
  throw cloudFault(
    `cloudName ${STACK_CLOUD} is not valid, error: open ${path.slice(0, 200)}: it is outside of the directories for environment files`,
  )
}

function parseEnvironment(bytes: Buffer, path: string): Cloud {
  const parsed = jsonOf(bytes)
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw cloudFault(`cloudName ${STACK_CLOUD} is not valid, error: ${path} is not a JSON object`)
  const folded = new Map(Object.entries(parsed).map(([key, value]) => [key.toLowerCase(), value as unknown]))
  const text = (key: string): string => {
    const value = folded.get(key.toLowerCase())
    return typeof value === 'string' ? value.trim() : ''
  }
  const suffix = text('keyVaultDNSSuffix').replace(/^\./, '').toLowerCase()
  const authority = text('activeDirectoryEndpoint')
  const resource = (text('keyVaultEndpoint') || `https://${suffix}`).replace(/\/+$/, '')
  if (!/^[a-z0-9-]+(?:\.[a-z0-9-]+)+$/.test(suffix))
    throw cloudFault(`cloudName ${STACK_CLOUD} is not valid, error: ${path} has no usable keyVaultDNSSuffix`)
  for (const [name, url] of [
    ['activeDirectoryEndpoint', authority],
    ['keyVaultEndpoint', resource],
  ] as const) {
    if (!URL.canParse(url) || new URL(url).protocol !== 'https:')
      throw cloudFault(
        `cloudName ${STACK_CLOUD} is not valid, error: ${name} in ${path} is not an https address`,
      )
  }
  return { authority: authority.endsWith('/') ? authority : `${authority}/`, resource, suffix }
}
