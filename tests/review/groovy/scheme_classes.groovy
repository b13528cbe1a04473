// Adds the classes of a project's scheme to a list as the setup script does, twice; what is in it each time.
import qupath.lib.objects.classes.PathClass

def read = { path -> new com.google.gson.Gson().fromJson(new File(path).getText('UTF-8'), Map) }
def job = read(args[0])
def shared = new GroovyShell(this.class.classLoader).parse(new File(job.shared))
shared.checkQuPath()
def folder = new File(job.project).toPath()
def scheme = shared.scheme(folder)
def mine = PathClass.fromString(job.mine.name)
mine.setColor(*job.mine.color.collect { it as int })
def available = [PathClass.NULL_CLASS, mine]
def seen = { available.drop(1).collect { [name: it.toString(), rgb: it.getColor() & 0xffffff] } }
def said = [first: null, second: null, reader: shared.readerOf(folder), groups: scheme.classNames,
            version: shared.versionOf(new File(job.installed)), none: shared.versionOf(new File(job.shared))]
available.addAll(scheme.missingClasses(available))
said.first = seen()
available.addAll(scheme.missingClasses(available))
said.second = seen()
new File(job.result).setText(new com.google.gson.GsonBuilder().serializeNulls().create().toJson(said), 'UTF-8')
