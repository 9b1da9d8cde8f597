/** The scripted provider as a process that can be killed: `node provider-process.ts DIR hang|die`. */
import { startProvider } from './provider.ts'

const [dir = '.', behaviour] = process.argv.slice(2)
await startProvider(dir, 'scripted', () => {
  process.stdout.write('called\n')
  if (behaviour === 'die') process.kill(process.pid, 'SIGKILL')
  return 'hang'
})
process.stdout.write('ready\n')
