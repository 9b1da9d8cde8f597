/** Owns the fake's data plane: Secrets Manager, Parameter Store and KMS of one region, as AWS answers. */
import { randomBytes, randomUUID } from 'node:crypto'

/** A refusal in the service's own words; `type` is what stands in `__type`. */
export class ServiceRefusal extends Error {
  readonly type: string
  readonly status: number
  constructor(type: string, message: string, status = 400) {
    super(message)
    this.type = type
    this.status = status
  }
}

export interface FakeVersion {
  readonly id: string
  stages: string[]
  readonly text?: string
  readonly binary?: Buffer
}

export interface FakeSecret {
  readonly arn: string
  readonly versions: FakeVersion[]
  deleted?: boolean
}

export interface FakeParameterVersion {
  readonly version: number
  readonly value: string
  labels: string[]
  readonly type: 'String' | 'StringList' | 'SecureString'
}

export interface FakeKey {
  readonly arn: string
  readonly sealed: Map<string, { plaintext: Buffer; context: string }>
}

type Json = Record<string, unknown>
type Authorize = (action: string, resource: string) => void

const contextText = (context: unknown): string =>
  JSON.stringify(
    Object.entries((context ?? {}) as Record<string, string>).sort(([a], [b]) => (a < b ? -1 : 1)),
  )

/** One region of one account. */
export class FakeRegion {
  readonly name: string
  readonly account: string
  readonly secrets = new Map<string, FakeSecret>()
  readonly parameters = new Map<string, FakeParameterVersion[]>()
  readonly keys = new Map<string, FakeKey>()
  /** Real AWS names the selector in its answer; moto and older replies do not. */
  namesSelectors = true

  constructor(name: string, account = '111122223333') {
    this.name = name
    this.account = account
  }

  // --- what tests put in -----------------------------------------------------------------------

  /** A new current version; the former current one becomes AWSPREVIOUS. @returns its id. */
  putSecret(name: string, content: string | Buffer, id: string = randomUUID()): string {
    let secret = this.secrets.get(name)
    if (secret === undefined) {
      const suffix = randomBytes(3).toString('hex')
      secret = {
        arn: `arn:aws:secretsmanager:${this.name}:${this.account}:secret:${name}-${suffix}`,
        versions: [],
      }
      this.secrets.set(name, secret)
    }
    for (const version of secret.versions) {
      const wasCurrent = version.stages.includes('AWSCURRENT')
      version.stages = version.stages.filter((s) => s !== 'AWSCURRENT' && s !== 'AWSPREVIOUS')
      if (wasCurrent) version.stages.push('AWSPREVIOUS')
    }
    secret.versions.push({
      id,
      stages: ['AWSCURRENT'],
      ...(typeof content === 'string' ? { text: content } : { binary: content }),
    })
    return id
  }

  putParameter(
    name: string,
    value: string,
    options: { labels?: string[]; type?: FakeParameterVersion['type']; version?: number } = {},
  ): number {
    const versions = this.parameters.get(name) ?? []
    const version = options.version ?? (versions.at(-1)?.version ?? 0) + 1
    versions.push({ version, value, labels: options.labels ?? [], type: options.type ?? 'String' })
    this.parameters.set(name, versions)
    return version
  }

  /** Seals `plaintext` as KMS Encrypt would. @returns base64 of the ciphertext blob. */
  seal(keyArn: string, plaintext: Buffer, context: Record<string, string> = {}): string {
    const key = this.keys.get(keyArn) ?? { arn: keyArn, sealed: new Map() }
    this.keys.set(keyArn, key)
    const blob = randomBytes(60).toString('base64')
    key.sealed.set(blob, { plaintext, context: contextText(context) })
    return blob
  }

  // --- Secrets Manager -------------------------------------------------------------------------

  #secret(id: string): readonly [name: string, secret: FakeSecret] {
    for (const [name, secret] of this.secrets) {
      const partial = secret.arn.slice(0, -7)
      if (id === name || id === secret.arn || id === partial) {
        if (secret.deleted)
          throw new ServiceRefusal(
            'InvalidRequestException',
            "You can't perform this operation on the secret because it was marked for deletion.",
          )
        return [name, secret]
      }
    }
    throw new ServiceRefusal('ResourceNotFoundException', "Secrets Manager can't find the specified secret.")
  }

  #answer(name: string, secret: FakeSecret, version: FakeVersion): Json {
    return {
      ARN: secret.arn,
      Name: name,
      VersionId: version.id,
      VersionStages: version.stages,
      CreatedDate: 1_760_000_000,
      ...(version.text === undefined ? {} : { SecretString: version.text }),
      ...(version.binary === undefined ? {} : { SecretBinary: version.binary.toString('base64') }),
    }
  }

  getSecretValue(input: Json, authorize: Authorize): Json {
    const id = String(input['SecretId'])
    authorize('secretsmanager:GetSecretValue', id)
    const [name, secret] = this.#secret(id)
    const versionId = input['VersionId'] as string | undefined
    const stage =
      (input['VersionStage'] as string | undefined) ?? (versionId === undefined ? 'AWSCURRENT' : undefined)
    const version = secret.versions.find(
      (v) =>
        (versionId === undefined || v.id === versionId) && (stage === undefined || v.stages.includes(stage)),
    )
    if (version === undefined)
      throw new ServiceRefusal(
        'ResourceNotFoundException',
        `Secrets Manager can't find the specified secret value for ${versionId === undefined ? `staging label: ${stage}` : `VersionId: ${versionId}`}`,
      )
    return this.#answer(name, secret, version)
  }

  describeSecret(input: Json, authorize: Authorize): Json {
    const id = String(input['SecretId'])
    authorize('secretsmanager:DescribeSecret', id)
    const [name, secret] = this.#secret(id)
    return {
      ARN: secret.arn,
      Name: name,
      VersionIdsToStages: Object.fromEntries(secret.versions.map((v) => [v.id, v.stages])),
    }
  }

  batchGetSecretValue(input: Json, authorize: Authorize): Json {
    authorize('secretsmanager:BatchGetSecretValue', '*')
    const filters = input['Filters'] as { Key: string; Values: string[] }[] | undefined
    if (filters !== undefined) {
      authorize('secretsmanager:ListSecrets', '*')
      const prefixes = filters.filter((f) => f.Key === 'name').flatMap((f) => f.Values)
      const all = [...this.secrets].filter(
        ([name, s]) => !s.deleted && prefixes.some((p) => name.startsWith(p)),
      )
      const from = Number(input['NextToken'] ?? 0)
      const page = all.slice(from, from + 20)
      return {
        SecretValues: page.map(([name, secret]) => this.#answer(name, secret, this.#current(secret))),
        Errors: [],
        ...(from + 20 < all.length ? { NextToken: String(from + 20) } : {}),
      }
    }
    const ids = input['SecretIdList'] as string[]
    if (ids.length > 20)
      throw new ServiceRefusal('ValidationException', 'Member must have length less than or equal to 20')
    const values: Json[] = []
    const errors: Json[] = []
    for (const id of ids) {
      try {
        values.push(this.getSecretValue({ SecretId: id }, authorize))
      } catch (error) {
        if (!(error instanceof ServiceRefusal)) throw error
        errors.push({ SecretId: id, ErrorCode: error.type, Message: error.message })
      }
    }
    return { SecretValues: values.toReversed(), Errors: errors }
  }

  #current(secret: FakeSecret): FakeVersion {
    const version = secret.versions.find((v) => v.stages.includes('AWSCURRENT'))
    if (version === undefined) throw new ServiceRefusal('ResourceNotFoundException', 'no current version')
    return version
  }

  // --- Parameter Store -------------------------------------------------------------------------

  #parameterArn(name: string): string {
    return `arn:aws:ssm:${this.name}:${this.account}:parameter${name.startsWith('/') ? '' : '/'}${name}`
  }

  #parameter(requested: string): Json | undefined {
    const wanted = requested.trim()
    const arn = wanted.startsWith('arn:')
    const colon = wanted.indexOf(':', arn ? wanted.indexOf(':parameter') + 10 : 0)
    const base = colon < 0 ? wanted : wanted.slice(0, colon)
    const selector = colon < 0 ? '' : wanted.slice(colon + 1)
    for (const [name, versions] of this.parameters) {
      if (base !== name && base !== this.#parameterArn(name)) continue
      const found =
        selector === ''
          ? versions.at(-1)
          : versions.find((v) => String(v.version) === selector || v.labels.includes(selector))
      if (found === undefined) return undefined
      return {
        Name: name,
        ARN: this.#parameterArn(name),
        Type: found.type,
        Value: found.value,
        Version: found.version,
        DataType: 'text',
        ...(selector !== '' && this.namesSelectors ? { Selector: `:${selector}` } : {}),
      }
    }
    return undefined
  }

  getParameters(input: Json, authorize: Authorize): Json {
    const names = input['Names'] as string[]
    if (names.length > 10)
      throw new ServiceRefusal('ValidationException', 'Member must have length less than or equal to 10')
    if (new Set(names).size !== names.length)
      throw new ServiceRefusal('ValidationException', 'Duplicate names in the request')
    if (input['WithDecryption'] !== true)
      throw new ServiceRefusal('ValidationException', 'the fake wants WithDecryption')
    for (const name of names) authorize('ssm:GetParameters', name)
    const found = names.map((name) => [name, this.#parameter(name)] as const)
    return {
      Parameters: found.flatMap(([, p]) => (p === undefined ? [] : [p])).toReversed(),
      InvalidParameters: found.filter(([, p]) => p === undefined).map(([name]) => name),
    }
  }

  getParametersByPath(input: Json, authorize: Authorize): Json {
    const path = String(input['Path'])
    authorize('ssm:GetParametersByPath', path)
    if (!path.startsWith('/'))
      throw new ServiceRefusal('ValidationException', 'The parameter path must begin with a slash')
    const below = path.endsWith('/') ? path : `${path}/`
    const names = [...this.parameters.keys()].filter(
      (name) =>
        name.startsWith(below) && (input['Recursive'] === true || !name.slice(below.length).includes('/')),
    )
    const from = Number(input['NextToken'] ?? 0)
    return {
      Parameters: names.slice(from, from + 10).map((name) => this.#parameter(name)),
      ...(from + 10 < names.length ? { NextToken: String(from + 10) } : {}),
    }
  }

  // --- KMS -------------------------------------------------------------------------------------

  decrypt(input: Json, authorize: Authorize): Json {
    const keyId = String(input['KeyId'])
    authorize('kms:Decrypt', keyId)
    const key = this.keys.get(keyId)
    if (key === undefined) throw new ServiceRefusal('NotFoundException', `Key '${keyId}' does not exist`)
    const sealed = key.sealed.get(String(input['CiphertextBlob']))
    if (sealed === undefined || sealed.context !== contextText(input['EncryptionContext']))
      throw new ServiceRefusal('InvalidCiphertextException', '')
    return { KeyId: keyId, Plaintext: sealed.plaintext.toString('base64') }
  }
}
