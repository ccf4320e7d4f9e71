"""Two paths of the app; `/` and `/teapot` are the plugin's."""

from django.urls import path

from sample_apps.django_app import views

urlpatterns = [path("app", views.untouched), path("echo", views.echo)]
