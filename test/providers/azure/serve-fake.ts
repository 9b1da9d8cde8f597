/** `node test/providers/azure/serve-fake.ts`: a fake Azure for trying examples/azure on this machine, until it is interrupted. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { AUDIENCE, exampleAzure } from './example-azure.ts'

const { fake, config, token } = await exampleAzure()
const path = (name: string): string => join(fake.directory, name)
writeFileSync(path('config.yaml'), JSON.stringify(config))
writeFileSync(path('token'), token)
process.stdout.write(
  `keyferry mount -f examples/azure/secretproviderclass.yaml --config ${path('config.yaml')} ` +
    `--service-account orders --pod orders --token ${AUDIENCE}=${path('token')} --target ${path('orders')}\n`,
)
process.once('SIGINT', () => void fake.stop())
