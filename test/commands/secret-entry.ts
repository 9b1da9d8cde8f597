/** Owns a program with nothing but `secret`, so that tests run the verbs as processes of their own. */
import { Command } from 'commander'
import { secretCommand } from '../../src/commands/secret.ts'

await new Command('keyferry').addCommand(secretCommand()).parseAsync()
