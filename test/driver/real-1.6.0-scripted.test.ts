import { mountSuite16 } from './mount-suite-1.6.ts'
import { scriptedSubject } from './scripted-subject.ts'

mountSuite16('the scripted provider', scriptedSubject, [])
