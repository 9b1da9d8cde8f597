/** Owns the addresses of AWS's services by partition; a test holds them against the SDK's own rules. */

/** Services that are called. */
export type ServiceName = 'secretsmanager' | 'ssm' | 'kms' | 'sts'

interface Partition {
  readonly name: string
  /** What its regions begin with; the first match counts. */
  readonly prefix: string
  readonly suffix: string
  readonly dualStackSuffix: string
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
    ['aws', '', 'amazonaws.com', 'api.aws'],
  ] as const
).map(([name, prefix, suffix, dualStackSuffix]) => ({ name, prefix, suffix, dualStackSuffix }))

/** In GovCloud the plain addresses of these are FIPS endpoints already. */
const GOV_IS_FIPS: ReadonlySet<ServiceName> = new Set<ServiceName>(['ssm', 'sts'])

export interface EndpointOptions {
  readonly fips: boolean
  readonly dualStack: boolean
}

/** AWS's own address of a service. `region` must be a region's name: it becomes part of the host. */
export function endpointUrl(service: ServiceName, region: string, options: EndpointOptions): string {
  const partition = PARTITIONS.find(({ prefix }) => region.startsWith(prefix))
  const { name, suffix, dualStackSuffix } = partition ?? {
    name: 'aws',
    suffix: 'amazonaws.com',
    dualStackSuffix: 'api.aws',
  }
  const plain = !options.fips || (name === 'aws-us-gov' && !options.dualStack && GOV_IS_FIPS.has(service))
  return `https://${service}${plain ? '' : '-fips'}.${region}.${options.dualStack ? dualStackSuffix : suffix}/`
}
