/**
 * Runs the fake Google for trying the examples by hand: `node test/providers/gcp/serve-fake.ts DIRECTORY`
 * writes `config.yaml` and `token` there and prints the command that mounts. Ends with Ctrl-C.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exampleGoogle } from './example-google.ts'

const [directory] = process.argv.slice(2)
if (directory === undefined) throw new Error('name a directory for config.yaml and token')
mkdirSync(directory, { recursive: true })
const { config, token, audience } = await exampleGoogle()
writeFileSync(join(directory, 'config.yaml'), JSON.stringify(config, undefined, 2))
writeFileSync(join(directory, 'token'), token, { mode: 0o600 })
process.stdout.write(
  `keyferry mount -f examples/gcp/secretproviderclass.yaml --config ${directory}/config.yaml ` +
    `--service-account orders --pod orders --token ${audience}=${directory}/token --target ${directory}/orders\n`,
)
