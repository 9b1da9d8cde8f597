/** Owns the parameters of an Azure SPC besides `objects`: what each may be, and how the identity signs in (azure sections 2, 3, 7). */
import type { PlanRequest } from '../adapter.ts'
import { isCloudName, isStackCloud, noSuchCloud } from './clouds.ts'
import type { Report } from './objects.ts'
import { isTenant, isVaultName, type AzureAuth, type AzureStore } from './store.ts'

/** Every parameter that means something here; others are named in a warning. */
export const PARAMETERS: ReadonlySet<string> = new Set([
  'keyvaultName',
  'tenantID',
  'tenantId',
  'cloudName',
  'cloudEnvFileName',
  'usePodIdentity',
  'useVMManagedIdentity',
  'useAzureTokenProxy',
  'userAssignedIdentityID',
  'clientID',
  'objects',
  // Ours
  'clientIDFromServiceAccount',
  'constructPEMChain',
  'objectVersionHistoryExact',
  'strictFilePermission',
  'writeCertAndKeyInSeparateFiles',
  // From before 0.0.4
  'resourceGroup',
  'subscriptionId',
  'resourceName',
])

/** What the class says. Without `auth` its identity could not be made out, which was reported. */
export interface SpcSettings {
  /** Everything of a store but the vault. */
  readonly store: Omit<AzureStore, 'vault'>
  /** `''` when it is missing. */
  readonly vault: string
  readonly constructChain: boolean
  readonly separateFiles: boolean
  readonly exactHistory: boolean
  readonly strictPermission: boolean
}

/** Go's `strconv.ParseBool`, and nothing for false. */
const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ...['1', 't', 'T', 'TRUE', 'true', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'FALSE', 'false', 'False'].map((text) => [text, false] as const),
])

/** Reads the parameters in the vendor's order; every fault goes to `report`. */
export function spcSettings(
  request: PlanRequest,
  report: Report,
  warn: (warning: string) => void,
): SpcSettings {
  const text = (name: string): string => request.parameters.get(name)?.trim() ?? ''
  const flag = (name: string, absent = false): boolean => {
    const value = text(name) === '' ? absent : BOOLEANS.get(text(name))
    if (value === undefined) {
      report(
        'AZURE_FLAG',
        `failed to parse ${name} flag, error: strconv.ParseBool: parsing ${JSON.stringify(text(name).slice(0, 40))}: invalid syntax`,
        'Use "true" or "false".',
      )
    }
    return value ?? absent
  }
  for (const name of request.parameters.keys()) {
    if (!PARAMETERS.has(name)) warn(`unknown parameter ${name.slice(0, 60)} is ignored`)
  }
  const modes = {
    podIdentity: flag('usePodIdentity'),
    vmIdentity: flag('useVMManagedIdentity'),
    tokenProxy: flag('useAzureTokenProxy'),
  }
  if (Object.values(modes).filter(Boolean).length > 1) {
    report(
      'AZURE_IDENTITY',
      'only one identity mode can be enabled at a time: usePodIdentity, useVMManagedIdentity, or useAzureTokenProxy',
    )
  }
  const fromServiceAccount = flag('clientIDFromServiceAccount')
  const vault = text('keyvaultName')
  const tenant = text('tenantID') || text('tenantId')
  if (vault === '') report('AZURE_NO_VAULT', 'keyvaultName is not provided', 'Set keyvaultName.')
  if (tenant === '' && !fromServiceAccount)
    report('AZURE_NO_TENANT', 'tenantId is not provided', 'Set tenantID.')
  const cloud = text('cloudName')
  if (cloud !== '' && !isCloudName(cloud)) {
    report(
      'AZURE_CLOUD',
      noSuchCloud(cloud),
      'Use AzurePublicCloud, AzureUSGovernmentCloud, AzureChinaCloud or AzureStackCloud.',
    )
  }
  const auth = authOf(request, { ...modes, fromServiceAccount, text, report })
  const usesTokenEndpoint =
    auth !== undefined && auth.mode !== 'managed-identity' && auth.mode !== 'pod-identity'
  if (usesTokenEndpoint && tenant !== '' && !isTenant(tenant)) {
    report(
      'AZURE_NO_TENANT',
      'failed to get keyvault client: invalid tenantID',
      'Use the id or a domain of the tenant: letters, digits, dots and hyphens.',
    )
  }
  const environmentFile = text('cloudEnvFileName')
  return {
    store: {
      ...(tenant === '' || !isTenant(tenant) ? {} : { tenant }),
      ...(cloud === '' ? {} : { cloud }),
      // Without that cloud the file has no effect.
      ...(isStackCloud(cloud) && environmentFile !== '' ? { environmentFile } : {}),
      ...(auth === undefined ? {} : { auth }),
    },
    vault,
    constructChain: flag('constructPEMChain', true),
    separateFiles: flag('writeCertAndKeyInSeparateFiles'),
    exactHistory: flag('objectVersionHistoryExact'),
    strictPermission: flag('strictFilePermission'),
  }
}

/** The vault's name is looked at after the objects, and only when there are any (azure section 3, step 16). */
export function checkVaultName(vault: string, report: Report): void {
  if (vault === '' || isVaultName(vault)) return
  const shown = JSON.stringify(vault.slice(0, 60))
  const length = vault.length < 3 || vault.length > 24
  report(
    'AZURE_NO_VAULT',
    `failed to get vault: Invalid vault name: ${shown}, must ${length ? 'be between 3 and 24 chars' : 'match [-a-zA-Z0-9]{3,24}'}`,
    'Set keyvaultName to the name of the vault alone, without a domain.',
  )
}

interface AuthFacts {
  readonly podIdentity: boolean
  readonly vmIdentity: boolean
  readonly tokenProxy: boolean
  readonly fromServiceAccount: boolean
  readonly text: (name: string) => string
  readonly report: Report
}

/** The modes in the order in which they are looked at; the service principal is what is left. */
function authOf(request: PlanRequest, facts: AuthFacts): AzureAuth | undefined {
  const { text, report } = facts
  const clientId = text('clientID')
  const identity = (name: string, id: string): boolean => {
    const sound = /^[A-Za-z0-9-]{1,128}$/.test(id)
    if (id !== '' && !sound)
      report('AZURE_IDENTITY', `${name} is not the id of a client`, `Set ${name} to a client id.`)
    return sound
  }
  if (facts.podIdentity)
    return { mode: 'pod-identity', pod: request.pod.name, namespace: request.pod.namespace }
  if (facts.vmIdentity) {
    const assigned = text('userAssignedIdentityID')
    return identity('userAssignedIdentityID', assigned)
      ? { mode: 'managed-identity', clientId: assigned }
      : { mode: 'managed-identity' }
  }
  if (facts.tokenProxy) {
    if (clientId === '') {
      report(
        'AZURE_IDENTITY',
        'failed to build auth config for mode AzureTokenProxy: clientID is required for identity binding',
        'Set clientID.',
      )
    }
    return identity('clientID', clientId) ? { mode: 'identity-binding', clientId } : undefined
  }
  if (identity('clientID', clientId)) return { mode: 'workload-identity', clientId }
  if (clientId !== '') return undefined
  return facts.fromServiceAccount
    ? { mode: 'workload-identity' }
    : servicePrincipal(request.nodePublishKeys, report)
}

const SECRET_REMEDY =
  'Set clientID for workload identity, or put clientid and clientsecret (or clientcertificate) into the Secret that nodePublishSecretRef names.'

function servicePrincipal(keys: ReadonlySet<string>, report: Report): AzureAuth | undefined {
  const fault = (reason: string): undefined => {
    report('AZURE_IDENTITY', `failed to build auth config for mode None: ${reason}`, SECRET_REMEDY)
    return undefined
  }
  if (keys.size === 0) {
    return fault(
      'failed to get credentials, nodePublishSecretRef secret is not set: could not find clientid in secrets',
    )
  }
  // The exact name first; among others that differ in case, the order of the alphabet.
  const sorted = [...keys].sort()
  const keyFor = (name: string): string | undefined =>
    keys.has(name) ? name : sorted.find((key) => key.toLowerCase() === name)
  const clientIdKey = keyFor('clientid')
  const secretKey = keyFor('clientsecret')
  const certificateKey = keyFor('clientcertificate')
  const passwordKey = keyFor('clientcertificatepassword')
  if (clientIdKey === undefined) return fault('could not find clientid in secrets')
  if (secretKey !== undefined) return { mode: 'service-principal', clientIdKey, secretKey }
  if (certificateKey === undefined) return fault('could not find clientsecret in secrets')
  return {
    mode: 'service-principal',
    clientIdKey,
    certificateKey,
    ...(passwordKey === undefined ? {} : { passwordKey }),
  }
}
