// Parts of glombridge_exchange.groovy by themselves, and a script run with several arguments: test_groovy_exchange.py.
def job = new com.google.gson.Gson().fromJson(new File(args[0]).getText('UTF-8'), Map)
def said = [:]
if (job.names != null) {
    def exchange = new GroovyShell(this.class.classLoader).parse(new File(job.exchange))
    said.safe = job.names.collect { exchange.fileNames.safe(it) }
}
if (job.project != null) {
    def exchange = new GroovyShell(this.class.classLoader).parse(new File(job.exchange))
    def empty = new qupath.lib.objects.hierarchy.PathObjectHierarchy()
    def project = qupath.lib.projects.ProjectIO.loadProject(new File(job.project), java.awt.image.BufferedImage)
    said.refused = project.getImageList().collect { entry ->
        try {
            exchange.stored.check(entry, empty)
            return null
        } catch (IOException error) {
            return error.message
        }
    }
}
if (job.starts != null) {
    def variables = new Binding([args: job.split as String[], 'qupath.script.file': job.starts])
    new GroovyShell(this.class.classLoader, variables).evaluate(new File(job.starts))
}
new File(job.result).setText(new com.google.gson.Gson().toJson(said), 'UTF-8')
