/** Owns the scalar parameters of an AWS SPC: what each may be and the store they make (aws.md section 2). */
import * as v from 'valibot'
import type { PathTranslation } from './names.ts'
import { pathTranslation } from './names.ts'
import type { Report } from './objects.ts'
import type { AwsStore } from './settings.ts'
import { isRegionName, storeSchema } from './settings.ts'

/** Every parameter that means something here. */
export const PARAMETERS = [
  'objects',
  'region',
  'failoverRegion',
  'failoverMode',
  'pathTranslation',
  'usePodIdentity',
  'preferredAddressType',
  'jmesPathStrict',
  'assumeRoleArn',
  'assumeRoleExternalId',
  'assumeRoleDurationSeconds',
] as const
type Name = (typeof PARAMETERS)[number]

/** What the parameters besides `objects` say. */
export interface SpcSettings {
  readonly store: AwsStore
  readonly translation: PathTranslation
  /** Numbers and booleans that a jmesPath finds are errors, as in AWS's own provider. */
  readonly strictJmesPath: boolean
}

/** Go's `strconv.ParseBool`. */
const BOOLEANS: ReadonlyMap<string, boolean> = new Map([
  ...['1', 't', 'T', 'TRUE', 'true', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'FALSE', 'false', 'False', ''].map((text) => [text, false] as const),
])

/** Reads the parameters; every fault goes to `report`, and the value is then the default. */
export function spcSettings(parameters: ReadonlyMap<string, string>, report: Report): SpcSettings {
  const text = (name: Name): string | undefined => parameters.get(name) || undefined
  const flag = (name: Name): boolean => {
    const value = BOOLEANS.get(parameters.get(name) ?? '')
    if (value === undefined)
      report(
        'AWS_BAD_BOOL',
        `${name} "${short(parameters.get(name))}" is not a boolean`,
        'Use "true" or "false".',
      )
    return value ?? false
  }
  const region = (name: Name): string | undefined => {
    const value = text(name)
    if (value === undefined || isRegionName(value)) return value
    report('AWS_BAD_REGION', `${name} "${short(value)}" is not the name of an AWS region`)
    return undefined
  }
  const primary = region('region')
  const failoverRegion = region('failoverRegion')
  if (primary !== undefined && primary === failoverRegion)
    report(
      'AWS_SAME_REGION',
      `failoverRegion is ${failoverRegion}, which is the primary region as well`,
      'Name another region in failoverRegion, or leave it out.',
    )
  const translation = pathTranslation(parameters.get('pathTranslation'))
  if (translation === undefined)
    report(
      'AWS_BAD_TRANSLATION',
      'pathTranslation must be False or one ASCII character',
      'Use "False", or one character such as "-".',
    )
  const family = text('preferredAddressType')?.toLowerCase()
  return {
    store: {
      ...(primary === undefined ? {} : { region: primary }),
      ...(failoverRegion === undefined ? {} : { failoverRegion }),
      ...storeField('failoverMode', text('failoverMode')?.toLowerCase(), report),
      ...(flag('usePodIdentity') ? { auth: 'pod-identity' as const } : {}),
      // Anything else silently means auto.
      ...(family === 'ipv4' || family === 'ipv6' ? { addressFamily: family } : {}),
      ...storeField('assumeRoleArn', text('assumeRoleArn'), report),
      ...storeField('assumeRoleExternalId', text('assumeRoleExternalId'), report),
      ...storeField('assumeRoleDurationSeconds', seconds(text('assumeRoleDurationSeconds')), report),
    },
    translation: translation ?? { replacement: '_' },
    strictJmesPath: flag('jmesPathStrict'),
  }
}

const short = (text: string | undefined): string => (text ?? '').slice(0, 60)

const seconds = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : /^\d{1,6}$/.test(text) ? Number(text) : Number.NaN

/** One field of the store, judged by the store's own schema. */
function storeField(
  name: keyof typeof storeSchema.entries,
  value: string | number | undefined,
  report: Report,
): Partial<AwsStore> {
  if (value === undefined) return {}
  const result = v.safeParse(storeSchema.entries[name], value)
  if (result.success) return { [name]: result.output }
  report('AWS_BAD_PARAMETER', `${name} "${short(String(value))}": ${result.issues[0].message}`)
  return {}
}
