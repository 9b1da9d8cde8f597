/** Owns the refusal of parameters that are not the class's own: volumeAttributes override them (threat model T1). */
import { BackendError } from '../providers/adapter.ts'
import type { MountContext } from './answer.ts'
import { MountFailure } from './errors.ts'
import { isParameter, type MountRequest } from './request.ts'

/** `provider` and `parameters` of a SecretProviderClass, as the API server has it. */
export interface ClassFacts {
  readonly provider: string
  readonly parameters: ReadonlyMap<string, string>
}

/** Reads a class. @throws BackendError */
export type ReadClass = (namespace: string, name: string, signal: AbortSignal) => Promise<ClassFacts>

/** @throws MountFailure when the parameters of the mount are not those of its class. */
export type ParameterCheck = (request: MountRequest, context: MountContext) => Promise<void>

/** Most parameters that an error names. */
const MAX_NAMED = 5

/** Compares each mount with its class, which is read anew each time: an old copy would refuse a changed class. */
export function createParameterCheck(readClass: ReadClass): ParameterCheck {
  return async ({ pod, secretProviderClass, parameters }, { provider, signal }) => {
    if (secretProviderClass === undefined || secretProviderClass === '') throw unnamed()
    const own = await readClass(pod.namespace, secretProviderClass, signal).catch((error: unknown) => {
      if (!(error instanceof BackendError)) throw error
      throw MountFailure.of(error.kind, error.code, error.message, error.remedy)
    })
    const names = new Set([...own.parameters.keys(), ...parameters.keys()].filter(isParameter))
    const differing = [...names].filter((name) => own.parameters.get(name) !== parameters.get(name))
    if (own.provider !== provider) differing.unshift('provider')
    if (differing.length > 0) throw overridden(`${pod.namespace}/${secretProviderClass}`, differing)
  }
}

function overridden(name: string, differing: readonly string[]): MountFailure {
  const named = differing.slice(0, MAX_NAMED).map((one) => `"${one.slice(0, 60)}"`)
  const more = differing.length > MAX_NAMED ? ` and ${differing.length - MAX_NAMED} more` : ''
  return MountFailure.of(
    'denied',
    'PARAMETERS_OVERRIDDEN',
    `what is mounted is not the SecretProviderClass ${name}: ${named.join(', ')}${more} differ`,
    "Leave only secretProviderClass in the volume's volumeAttributes, and change the class instead",
  )
}

function unnamed(): MountFailure {
  return MountFailure.of(
    'denied',
    'CLASS_NOT_NAMED',
    'the driver does not say which SecretProviderClass this is, so its parameters cannot be verified',
    'Use driver 1.6, or have the operator set policy.verifyParameters: off',
  )
}
