// Decides pushed proposals as the review window does and saves the image: what test_groovy_and_python.py pulls.
import java.awt.image.BufferedImage
import qupath.lib.images.ImageData
import qupath.lib.images.servers.WrappedBufferedImageServer
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.ProjectIO

def read = { path -> new com.google.gson.Gson().fromJson(new File(path).getText('UTF-8'), Map) }
def job = read(args[0])
def shared = new GroovyShell(this.class.classLoader).parse(new File(job.shared))
def project = ProjectIO.loadProject(new File(job.project), BufferedImage)
def decisions = shared.decisions(shared.scheme(project.getPath().getParent()))
def entry = project.getImageList().find { it.getID() == job.image }
// The slide is not here; nothing of it is needed.
def server = new WrappedBufferedImageServer('stand-in', new BufferedImage(8, 8, BufferedImage.TYPE_INT_RGB))
def imageData = new ImageData(server)
def opened = shared.images.stamp(entry)
imageData.getHierarchy().setHierarchy(entry.readHierarchy())
def objects = imageData.getHierarchy().getAllObjects(false).collectEntries { [(it.getID().toString()): it] }
job.deeds.each { id, deed ->
    def object = objects[id]
    if (deed.byHand != null) {
        object.setPathClass(PathClass.fromString(deed.byHand))
    }
    def undo = []
    deed.decisions.each { step ->
        if (step['do'] == 'undo') {
            decisions.restore(object, undo.pop())
        } else {
            undo.push(decisions.decide(object, step['do'], reader: step.reviewer, at: step.at,
                seconds: step.seconds, name: step.name, value: step.value as Integer))
        }
    }
}
shared.images.save(entry, imageData, opened)
new File(job.result).setText(new com.google.gson.Gson().toJson([decided: job.deeds.size()]), 'UTF-8')
