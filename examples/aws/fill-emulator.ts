/** Puts what the examples mount into an emulator: `node examples/aws/fill-emulator.ts http://127.0.0.1:5566`. */
import { CreateSecretCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager'
import { PutParameterCommand, SSMClient } from '@aws-sdk/client-ssm'

const [endpoint] = process.argv.slice(2)
if (endpoint === undefined) throw new Error('name the address of the emulator')
const config = {
  region: 'eu-central-1',
  endpoint,
  credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'emulator' },
}
const secrets = new SecretsManagerClient(config)
const parameters = new SSMClient(config)
const database = JSON.stringify({ username: 'orders', password: 'correct horse', port: 5432 })
await secrets.send(new CreateSecretCommand({ Name: 'shop/orders-db', SecretString: database }))
await secrets.send(new CreateSecretCommand({ Name: 'shop/signing-key', SecretBinary: Buffer.alloc(32, 7) }))
await parameters.send(
  new PutParameterCommand({ Name: '/shop/feature-flags', Value: 'a,b', Type: 'StringList' }),
)
await parameters.send(new PutParameterCommand({ Name: '/shop/greeting', Value: 'hello', Type: 'String' }))
process.stdout.write('filled\n')
