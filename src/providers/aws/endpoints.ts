/** Owns the addresses of AWS's services by partition; a test holds them against the SDK's own rules. */

/** Services that are called. */
export type ServiceName = 'secretsmanager' | 'ssm' | 'kms' | 'sts'

interface Partition {
  readonly name: string
  /** What its regions begin with. */
  readonly prefix: string
  readonly suffix: string
  readonly dualStackSuffix: string
}

const COMMERCIAL: Partition = {
  name: 'aws',
  prefix: '',
  suffix: 'amazonaws.com',
  dualStackSuffix: 'api.aws',
}

const PARTITIONS: readonly Partition[] = (
  [
    ['aws-cn', 'cn-', 'amazonaws.com.cn', 'api.amazonwebservices.com.cn'],
    ['aws-us-gov', 'us-gov-', 'amazonaws.com', 'api.aws'],
    ['aws-iso-b', 'us-isob-', 'sc2s.sgov.gov', 'api.aws.scloud'],
    ['aws-iso-f', 'us-isof-', 'csp.hci.ic.gov', 'api.aws.hci.ic.gov'],
    ['aws-iso', 'us-iso-', 'c2s.ic.gov', 'api.aws.ic.gov'],
    ['aws-iso-e', 'eu-isoe-', 'cloud.adc-e.uk', 'api.cloud-aws.adc-e.uk'],
    ['aws-eusc', 'eusc-', 'amazonaws.eu', 'api.amazonwebservices.eu'],
  ] as const
).map(([name, prefix, suffix, dualStackSuffix]) => ({ name, prefix, suffix, dualStackSuffix }))

/** In GovCloud the plain addresses of these are FIPS endpoints already. */
const GOV_IS_FIPS: ReadonlySet<ServiceName> = new Set<ServiceName>(['ssm', 'sts'])

/** Where Secrets Manager's plain addresses answer on IPv6 as well: `partition fips`. */
const SECRETS_ARE_DUAL_STACK: ReadonlySet<string> = new Set([
  'aws false',
  'aws true',
  'aws-us-gov false',
  'aws-us-gov true',
  'aws-cn false',
])

export interface EndpointOptions {
  readonly fips: boolean
  readonly dualStack: boolean
}

/** AWS's own address of a service. `region` must be a region's name: it becomes part of the host. */
export function endpointUrl(
  service: ServiceName,
  region: string,
  { fips, dualStack }: EndpointOptions,
): string {
  const { name, suffix, dualStackSuffix } =
    PARTITIONS.find(({ prefix }) => region.startsWith(prefix)) ?? COMMERCIAL
  const plainIsFips = name === 'aws-us-gov' && !dualStack && GOV_IS_FIPS.has(service)
  const plainIsDual = service === 'secretsmanager' && SECRETS_ARE_DUAL_STACK.has(`${name} ${fips}`)
  const label = fips && !plainIsFips ? `${service}-fips` : service
  return `https://${label}.${region}.${dualStack && !plainIsDual ? dualStackSuffix : suffix}/`
}
